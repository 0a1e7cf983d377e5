"""What every twin is held to: the results of its op in float64, from the same stored numbers."""

import functools

import numpy as np
import pytest

from tinygpt import Muon, kernels, ops
from tinygpt.backend import to_numpy
from tinygpt.nn import Parameter
from tinygpt.vjp import is_float

# The largest error of a result, over its size, as root mean squares. bf16 rounds at 2^-9, and not
# only what comes out: attention's weights and logits too.
TOLERANCE = {"float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3}


def stored_as(dtype):
    """The NumPy dtype of that name; skips where bfloat16 is not to be had."""
    if dtype == "bfloat16":
        reason = "NumPy knows bfloat16 by ml_dtypes, which is not installed"
        dtype = pytest.importorskip("ml_dtypes", reason=reason).bfloat16
    return np.dtype(dtype)


def check_twin(device, f, arrays, dtype, order=0):
    """The twin of f gives what f gives, forward and backward."""
    op, options = (f.func, f.keywords) if isinstance(f, functools.partial) else (f, {})
    stored = stored_as(dtype)
    arrays = [rounded(a, stored) for a in arrays]
    y, backward = op(*map(exact, arrays), **options)
    rng = np.random.default_rng(1)
    dys = [rounded(rng.standard_normal(np.shape(part)), stored) for part in results(y)]
    if dys[0].ndim == 0:  # a loss, and its gradient, are kept in float32
        dys = [dys[0].astype("float32")]
    expected = (*results(y), *backward(*map(exact, dys)))

    with device.running(order):
        on_device = [None if a is None else device.array(a) for a in arrays]
        twin = kernels.twin(op, on_device)
        assert twin is not op
        y, backward = twin(*on_device, **options)
        actual = (*results(y), *backward(*map(device.array, dys)))
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) == (e is None)
        if a is not None:
            assert a.dtype == (stored if a.ndim else "float32")
            assert type(a) is type(on_device[0])
            assert relative_error(to_numpy(a), e) < TOLERANCE[dtype]


def check_sums(device, case, dtype="float32", order=0):
    """The gradients of leaves, to which a twin's backward adds where the tape tells it to."""
    op, arrays = CASES[case]
    stored = stored_as(dtype)
    with device.running(order):
        x, *others = (None if a is None else device.array(rounded(a, stored)) for a in arrays)
        y, backward = kernels.twin(op, [x, *others])(x, *others)
        rng = np.random.default_rng(1)
        dys = [device.array(rounded(rng.standard_normal(p.shape), stored)) for p in results(y)]
        first = (
            2 if op in (ops.add_layer_norm, ops.add_rms_norm) else 1
        )  # leaves come behind x, or x and h
        expected = backward(*dys)[first:]
        functions = backward(*dys, to_leaf=[i >= first for i in range(len(arrays))])[first:]
        for f, e in zip(functions, expected, strict=True):
            assert (f is None) == (e is None)
            if f is not None:
                grad = device.array(np.full(e.shape, 3), stored)
                assert f(grad) is grad
                assert relative_error(to_numpy(grad), exact(to_numpy(e)) + 3) < TOLERANCE[dtype]


def check_rounded_sum(device, op, order=0):
    """Before products in 16 bits, x + h and the gradient of x keep 32; the norm has 16, and the
    gradient of h, too."""
    rng, short = np.random.default_rng(0), stored_as("bfloat16")
    drawn = [rng.standard_normal((35, 132)) for _ in range(4)]
    dtypes = ("float32", short, "float32", short)
    with device.running(order), kernels.precision("bfloat16"):
        x, h, ds, dy = map(device.array, drawn, dtypes)
        w = device.array(rng.standard_normal(132), "float32")
        (s, y), backward = kernels.twin(op, [x])(x, h, w)
        dx, dh, dw = backward(ds, dy)[:3]
    assert (s.dtype, y.dtype, dx.dtype, dh.dtype, dw.dtype) == ("f4", short, "f4", short, "f4")
    x, h, w, ds, dy = (exact(to_numpy(a)) for a in (x, h, w, ds, dy))
    expected, backward = op(x, h, w)
    for a, e in zip((s, y, dx, dh, dw), expected + backward(ds, dy), strict=False):
        assert relative_error(to_numpy(a), e) < TOLERANCE[str(a.dtype)]


def check_muon(device, order=0):
    """Two steps of Muon on kernels, with a copy of the weights where there is one to be had, give
    those of NumPy in float64."""
    rng = np.random.default_rng(0)
    shapes = [(40, 12), (12, 40), (17, 17), (300, 2)]
    weights, *gradients = ([rng.standard_normal(shape) for shape in shapes] for _ in range(3))

    def train(array):
        optimizer = Muon([Parameter(array(w)) for w in weights], 0.1, 0.8, weight_decay=0.3)
        for gs in gradients:
            for p, g in zip(optimizer.param_groups[0]["params"], gs, strict=True):
                p.grad[...] = array(g)
            optimizer.step(0.5)
        return optimizer.data, optimizer.exp_avg

    expected = train(np.array)
    with device.running(order):
        actual = train(lambda x: device.array(x, "float32"))
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(to_numpy(a), e) < 1e-5


def results(y):
    """The results of an op that may have several."""
    return y if isinstance(y, tuple) else (y,)


def rounded(a, dtype):
    """Floats as `dtype`; anything else as it is."""
    return a.astype(dtype) if a is not None and is_float(a) else a


def exact(a):
    """Floats of any kind in float64."""
    return a if a is None or a.dtype.kind in "iub" else a.astype("float64")


def relative_error(actual, expected):
    """The root mean square of the error, over that of what was expected."""
    actual = actual.astype("float64")
    assert np.isfinite(actual).all()
    assert actual.shape == np.shape(expected)
    size = np.linalg.norm(expected)
    return np.linalg.norm(actual - expected) / (size if size > 0 else 1)


# ---- cases --------------------------------------------------------------------------------------

draw = np.random.default_rng(0).standard_normal


def ids(n, *shape):
    return np.random.default_rng(0).integers(0, n, shape)


def some_ignored(targets):
    targets.reshape(-1)[::3] = -1
    return targets


def heads(B, T, S, H, G, D):
    """q, k and v."""
    return [draw((B, H, T, D)), draw((B, G, S, D)), draw((B, G, S, D))]


attention = functools.partial(ops.scaled_dot_product_attention, is_causal=True)
dropping = functools.partial(attention, dropout_p=0.3, rng=(3, 1, 4))

# Sizes that are no multiples of a tile, of a warp, of the 256 rows or 128 ids of a block.
CASES = {
    "layer_norm": (ops.layer_norm, [draw((3, 7, 100)), draw(100), draw(100)]),
    "layer_norm, more rows": (ops.layer_norm, [draw((1100, 36)), draw(36), None]),
    "layer_norm, wide": (ops.layer_norm, [draw((35, 2052)), draw(2052), draw(2052)]),
    "rms_norm": (ops.rms_norm, [draw((300, 36)), draw(36)]),
    "rms_norm without weight": (functools.partial(ops.rms_norm, eps=0.1), [draw((3, 132)), None]),
    "add_layer_norm": (
        ops.add_layer_norm,
        [draw((3, 7, 100)), draw((3, 7, 100)), draw(100), draw(100)],
    ),
    "add_layer_norm, no bias": (
        ops.add_layer_norm,
        [draw((35, 132)), draw((35, 132)), draw(132), None],
    ),
    "add_layer_norm of nothing": (ops.add_layer_norm, [draw((35, 36)), None, draw(36), draw(36)]),
    "add_rms_norm": (ops.add_rms_norm, [draw((300, 36)), draw((300, 36)), draw(36)]),
    "add_rms_norm without weight": (
        functools.partial(ops.add_rms_norm, eps=0.1),
        [draw((3, 132)), draw((3, 132)), None],
    ),
    "gelu": (ops.gelu, [draw((3, 343))]),
    "gelu_tanh": (ops.gelu_tanh, [draw((3, 343))]),
    "relu": (ops.relu, [draw((3, 343))]),
    "relu2": (ops.relu2, [draw((3, 343))]),
    "silu": (ops.silu, [draw((3, 343))]),
    "embedding": (ops.embedding, [ids(9, 5, 67), draw((11, 36))]),
    "embedding of one id": (ops.embedding, [ids(1, 5, 67), draw((2, 130))]),
    "embedding, all different": (ops.embedding, [np.arange(300)[::-1], draw((300, 4))]),
    "dropout": (functools.partial(ops.dropout, p=0.3, rng=(1, 2), first=21), [draw((3, 343))]),
    "cross_entropy": (ops.cross_entropy, [draw((3, 5, 10)), some_ignored(ids(10, 3, 5))]),
    "cross_entropy, none counted": (ops.cross_entropy, [draw((2, 40)), np.array([-1, -1])]),
    "linear": (ops.linear, [draw((3, 5, 8)), draw((8, 7)), draw(7)]),
    "linear, many rows": (ops.linear, [draw((300, 8)), draw((8, 36)), draw(36)]),
    "linear without bias": (ops.linear, [draw((1, 8)), draw((8, 1)), None]),
    "matmul": (ops.matmul, [draw((3, 5, 8)), draw((8, 7))]),
    "matmul, transposed": (ops.matmul, [draw((5, 8)), draw((7, 8)).T]),
    "linear_cross_entropy": (
        ops.linear_cross_entropy,
        [draw((3, 5, 8)), draw((1101, 8)), some_ignored(ids(1101, 3, 5))],
    ),
    "attention": (attention, heads(2, 70, 70, 2, 2, 32)),
    "attention, few keys": (attention, heads(1, 90, 70, 2, 1, 32)),
    "attention, many keys": (attention, heads(1, 5, 130, 2, 2, 32)),
    "attention to all": (
        functools.partial(attention, is_causal=False, scale=0.3),
        heads(1, 70, 90, 2, 1, 32),
    ),
    "attention with dropout": (functools.partial(dropping, first=5), heads(1, 70, 70, 4, 2, 32)),
    "attention with dropout of whole runs": (dropping, heads(1, 64, 96, 2, 1, 32)),
    "attention with a window": (
        functools.partial(ops.sliding_window_attention, window=9, sinks=2),
        heads(1, 70, 75, 4, 2, 32),
    ),
    "layer_norm of 6 numbers": (ops.layer_norm, [draw((5, 6)), draw(6), draw(6)]),
    "add_layer_norm of 6 numbers": (
        ops.add_layer_norm,
        [draw((5, 6)), draw((5, 6)), draw(6), draw(6)],
    ),
    "add_rms_norm of 6 numbers and nothing": (ops.add_rms_norm, [draw((5, 6)), None, draw(6)]),
    "combine": (ops.combine, [draw((8, 6)), draw((4, 2)), np.arange(8)[::-1].copy()]),
}
LARGE_HEADS = {
    f"{name}, D = {D}": (f, heads(1, 70, 70, 2, 1, D))
    for D in (64, 128)
    for name, f in [("attention", attention), ("with dropout", dropping)]
}
