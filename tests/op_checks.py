"""What every op is held to. A check passes silently or raises, mostly an AssertionError."""

import contextlib
import functools

import numpy as np
import pytest
from hypothesis import settings
from hypothesis.extra import numpy as hnp
from op_definitions import DEFINITIONS

from tinygpt import gradcheck
from tinygpt.vjp import is_float


def op_of(case):
    """The op of a Case, without its options."""
    return getattr(case.f, "func", case.f)


def run(f, *arrays, rng=0):
    """f forward and, with random dys, backward: (ys, dys, one gradient for each of arrays)."""
    ys, backward = f(*arrays)
    ys = ys if isinstance(ys, tuple) else (ys,)
    draw = np.random.default_rng(rng).standard_normal
    dys = tuple(np.asarray(draw(np.shape(y)), dtype=y.dtype) for y in ys)
    return ys, dys, backward(*dys)[: len(arrays)]


def assert_close(actual, expected, tolerance=1e-12):
    """Equal up to `tolerance`, relative to the largest number or to 1; None equals only None."""
    if expected is None or actual is None:
        assert actual is expected
        return
    assert np.shape(actual) == np.shape(expected)
    largest = np.max(np.abs(expected), initial=0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(largest, 1))


def assert_same(actual, expected):
    """Equal bit for bit; None equals only None."""
    if expected is None or actual is None:
        assert actual is expected
        return
    np.testing.assert_array_equal(actual, expected, strict=True)


def check_op(f, *arrays, allow_zero=()):
    """All the checks below that need no more than an op and its arguments."""
    check_value(f, *arrays)
    check_gradient(f, *arrays, allow_zero=allow_zero)
    check_leaves_inputs_alone(f, *arrays)
    check_layouts(f, *arrays)


def check_gradient(f, *arrays, allow_zero=()):
    """backward gives the gradient that finite differences give."""
    gradcheck(f, *arrays, allow_zero=allow_zero)


def check_value(f, *arrays):
    """y is what the op's definition, written the slow and obvious way, says."""
    op, options = (f.func, f.keywords) if isinstance(f, functools.partial) else (f, {})
    ys, expected = f(*arrays)[0], DEFINITIONS[op.__name__](*arrays, **options)
    if not isinstance(ys, tuple):
        ys, expected = (ys,), (expected,)
    for y, value in zip(ys, expected, strict=True):
        assert_close(y, value, 1e-13)


def check_leaves_inputs_alone(f, *arrays):
    """Neither direction writes to the inputs or to dy, and backward gives one answer each time."""
    arrays = [np.array(a) for a in arrays]
    for a in arrays:
        a.flags.writeable = False  # to write here is a ValueError

    ys, backward = f(*arrays)
    ys = ys if isinstance(ys, tuple) else (ys,)
    dys = [np.cos(np.asarray(y)) for y in ys]
    dys = [np.array(dy, dtype=y.dtype) for dy, y in zip(dys, ys, strict=True)]
    for dy in dys:
        dy.flags.writeable = False

    y_before = [np.array(y) for y in ys]
    first = [None if g is None else np.array(g) for g in backward(*dys)]
    for again, once in zip(backward(*dys), first, strict=True):
        assert_same(None if again is None else np.array(again), once)
    for y, before in zip(ys, y_before, strict=True):
        assert_same(np.array(y), before)


LAYOUTS = {
    "transposed": lambda a: a.T.copy().T,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a,
    "backwards": lambda a: a[..., ::-1].copy()[..., ::-1] if a.ndim else a,
}


def check_layouts(f, *arrays):
    """Views, strided or transposed, of inputs and dys give what contiguous arrays give."""
    ys, dys, gradients = run(f, *arrays)
    backward = f(*arrays)[1]
    for lay in LAYOUTS.values():
        y, backward_of_views = f(*[lay(np.asarray(a)) for a in arrays])
        results = (*(y if isinstance(y, tuple) else (y,)), *backward_of_views(*dys))
        for actual, expected in zip(results, (*ys, *gradients), strict=False):
            assert_close(actual, expected)
        for actual, expected in zip(backward(*map(lay, dys)), gradients, strict=False):
            assert_close(actual, expected)

    ones = [np.ones_like(y) for y in ys]
    one_in_memory = [np.broadcast_to(np.ones((), y.dtype), np.shape(y)) for y in ys]
    for actual, expected in zip(backward(*one_in_memory), backward(*ones), strict=True):
        assert_close(actual, expected)


def check_dtypes(f, *arrays, dtype="float32"):
    """y and every gradient have the dtype of the inputs."""
    f, arrays = with_dtype(f, arrays, dtype)
    ys, _, gradients = run(f, *arrays)
    for array in (*ys, *[g for g in gradients if g is not None]):
        assert array.dtype == dtype


def with_dtype(f, arrays, dtype):
    """f and its arguments, with every array of floats, among the options too, in `dtype`."""

    def convert(a):
        return a.astype(dtype) if is_float(a) else a

    if isinstance(f, functools.partial):
        f = functools.partial(f.func, **{name: convert(a) for name, a in f.keywords.items()})
    return f, tuple(convert(a) for a in arrays)


def check_against_torch(f, reference, *arrays, tolerance=1e-12):
    """y and every gradient equal those of reference(torch, *tensors), in float64."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    ys, dys, gradients = run(f, *arrays)

    tensors = [torch.tensor(a, requires_grad=is_float(a)) for a in arrays]
    expected = reference(torch, *tensors)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for y, value in zip(ys, expected, strict=True):
        assert_close(y, value.detach().numpy(), tolerance)

    torch.autograd.backward(expected, [torch.tensor(dy) for dy in dys])
    for gradient, x in zip(gradients, tensors, strict=True):
        assert_close(gradient, None if x.grad is None else x.grad.numpy(), tolerance)


def saved_bytes(f, *arrays):
    """The bytes of all arrays that `backward` keeps alive, each counted once, inputs included."""
    _, backward = f(*arrays)
    buffers = {}
    _collect(backward, buffers)
    return sum(buffers.values())


def _collect(thing, buffers):
    if isinstance(thing, np.ndarray):
        while isinstance(thing.base, np.ndarray):  # a view keeps all of what it looks at
            thing = thing.base
        buffers[id(thing)] = thing.nbytes
    elif isinstance(thing, list | tuple):
        for part in thing:
            _collect(part, buffers)
    elif hasattr(thing, "__closure__"):
        for cell in thing.__closure__ or ():
            with contextlib.suppress(ValueError):  # an empty cell, of a name never given a value
                _collect(cell.cell_contents, buffers)


# ---- shapes for hypothesis ----------------------------------------------------------------------

examples = settings(max_examples=25, deadline=None, derandomize=True)
shapes = hnp.array_shapes(min_dims=0, max_dims=4, max_side=4)  # () and sizes of 1 among them
matrices = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


def broadcasting(count):
    """Shapes of `count` arrays that broadcast against each other."""
    return hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=4).map(
        lambda drawn: drawn.input_shapes
    )
