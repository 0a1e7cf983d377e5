"""Every twin against its op in float64, forward and backward, with threads in several orders."""

import functools
import importlib

import numpy as np
import pytest
from emulation import GPUArray, to_gpu
from twin_checks import (
    CASES,
    LARGE_HEADS,
    attention,
    check_rounded_sum,
    check_sums,
    check_twin,
    heads,
    relative_error,
    results,
    stored_as,
)

from tinygpt import Tensor, kernels, ops, plain
from tinygpt import functional as F
from tinygpt.backend import to_numpy

both_dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@both_dtypes
@pytest.mark.parametrize("case", CASES)
def test_twin_gives_what_its_op_gives(device, case, dtype):
    for order in device.orders if dtype == "float32" else device.orders[::3]:
        check_twin(device, *CASES[case], dtype, order)


def test_a_norm_of_queries_in_16_bits(device):
    """What is normalised is a product's result, and its weight is not."""
    x = device.array(np.random.default_rng(0).standard_normal((3, 5, 8)), stored_as("bfloat16"))
    w = device.array(np.linspace(1, 2, 8), "float32")
    with device.running():
        y, backward = kernels.twin(ops.rms_norm, [x])(x, w)
        dx, dw = backward(y)
    assert (y.dtype, dx.dtype, dw.dtype) == (x.dtype, x.dtype, "float32")
    expected, backward = ops.rms_norm(to_numpy(x).astype("f8"), to_numpy(w).astype("f8"))
    for a, e in zip((y, dx, dw), (expected, *backward(to_numpy(y).astype("f8"))), strict=True):
        assert relative_error(to_numpy(a).astype("f8"), e) < 1e-2


@pytest.mark.parametrize("op", [ops.add_layer_norm, ops.add_rms_norm])
def test_a_sum_and_its_norm_before_products_in_16_bits(device, op):
    for order in device.orders[::3]:
        check_rounded_sum(device, op, order)


def test_a_sum_of_rows_that_lie_apart(device):
    """x, h and what comes back, each in every other row of an array."""
    drawn = np.random.default_rng(0).standard_normal((4, 6, 8))
    w = np.linspace(1, 2, 8)
    with device.running():
        x, h, ds, dy = (device.array(a, "float32")[::2] for a in drawn)
        twin = kernels.twin(ops.add_rms_norm, [x])
        y, backward = twin(x, h, device.array(w, "float32"))
        actual = (*y, *backward(ds, dy))
    x, h, ds, dy = drawn[:, ::2]
    y, backward = ops.add_rms_norm(x, h, w)
    for a, e in zip(actual, y + backward(ds, dy), strict=True):
        assert relative_error(to_numpy(a), e) < 1e-6


def test_an_h_that_no_product_left(device):
    """Where products take 16 bits, one of 32 is added by the op, in 32."""
    stored_as("bfloat16")
    x, h, w = np.random.default_rng(0).standard_normal((3, 4, 8))
    with device.running(), kernels.precision("bfloat16"):
        arrays = [device.array(a, "float32") for a in (x, h, w[0])]
        (s, y), backward = kernels.twin(ops.add_layer_norm, arrays)(*arrays)
        actual = (s, y, *backward(s, y)[:3])
    (s, y), backward = ops.add_layer_norm(x, h, w[0])
    for a, e in zip(actual, (s, y, *backward(s, y)[:3]), strict=True):
        assert relative_error(to_numpy(a), e) < 1e-6


@pytest.mark.parametrize("case", ["gelu_tanh", "linear_cross_entropy", "attention with dropout"])
def test_float16(device, case):
    for order in device.orders[::3]:
        check_twin(device, *CASES[case], "float16", order)


@both_dtypes
@pytest.mark.parametrize("case", ["cross_entropy", "linear_cross_entropy"])
def test_logits_that_do_not_fit_shared_memory(device, monkeypatch, case, dtype):
    module = importlib.import_module("tinygpt.kernels.cross_entropy")
    monkeypatch.setattr(module, "shared_memory", lambda like: 0)
    for order in device.orders[::3]:
        check_twin(device, *CASES[case], dtype, order)


def test_logits_of_several_widths_in_turn(device):
    """Each asks for shared memory, which the others still have afterwards."""
    dtype, targets = stored_as("bfloat16"), np.array([3])
    with device.running():
        for V in (30000, 26000, 24500, 30000):
            logits = np.random.default_rng(V).standard_normal((1, V)).astype(dtype)
            x = device.array(logits)
            loss, _ = kernels.twin(ops.cross_entropy, [x])(x, device.array(targets))
            expected, _ = ops.cross_entropy(logits.astype("float64"), targets)
            assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@both_dtypes
@pytest.mark.parametrize("case", LARGE_HEADS)
def test_heads_of_other_sizes(device, case, dtype):
    for order in device.orders[-2:]:
        check_twin(device, *LARGE_HEADS[case], dtype, order)


@both_dtypes
@pytest.mark.parametrize(
    "case",
    [
        "layer_norm",
        "rms_norm",
        "add_layer_norm",
        "add_rms_norm",
        "linear",
        "embedding of one id",
        "linear_cross_entropy",
    ],
)
def test_what_is_there_already_is_added_to(device, case, dtype):
    for order in device.orders[::3]:
        check_sums(device, case, dtype, order)


def test_a_leaf_whose_rows_lie_apart(device):
    w = Tensor(device.array(np.ones((4, 8)), "float32").T, requires_grad=True)
    with device.running():
        F.linear(device.array(np.ones((3, 8)), "float32"), w).sum().backward()
    assert (to_numpy(w.grad) == 3).all()


def test_every_twin_has_a_case():
    tried = {getattr(f, "func", f) for f, _ in CASES.values()}
    assert tried | {ops.split} == set(kernels.TWINS)  # which has tests of its own


@both_dtypes
def test_any_order_of_threads_gives_the_same_bits(emulator, dtype):
    q, k, v = (emulator.array(x, stored_as(dtype)) for x in heads(1, 70, 70, 2, 1, 32))
    results = []
    for order in emulator.orders:
        with emulator.running(order):
            y, backward = kernels.twin(ops.scaled_dot_product_attention, [q])(
                q, k, v, is_causal=True
            )
            results.append([y, *backward(y)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a.astype("float32"), b.astype("float32"))


def test_a_query_that_sees_nothing_gets_nothing(device):
    q, k, v = (device.array(np.ones((1, 1, T, 32), "float32")) for T in (5, 3, 3))
    with device.running():
        y, backward = kernels.twin(ops.scaled_dot_product_attention, [q])(q, k, v, is_causal=True)
        dq = backward(y)[0]
    assert to_numpy((y == 0).all(axis=-1)).tolist() == [[[True, True, False, False, False]]]
    assert (to_numpy(dq)[:, :, :2] == 0).all()


def test_q_k_and_v_are_read_where_they_lie(device, monkeypatch):
    B, T, H, G, D = 2, 70, 4, 2, 32
    projected = device.array(
        np.random.default_rng(0).standard_normal((B, T, H + 2 * G, D)), "float32"
    )
    projected = projected.transpose(0, 2, 1, 3)  # as a projection leaves them
    q, k, v = projected[:, :H], projected[:, H : H + G], projected[:, H + G :]
    assert all(kernels.attention._readable(x) is x for x in (q, k, v))
    with device.running():
        twin = kernels.twin(ops.scaled_dot_product_attention, [q])
        assert twin is not ops.scaled_dot_product_attention
        expected, backward = twin(q.copy(), k.copy(), v.copy(), is_causal=True)
        expected = [expected, *backward(q)]
        y, backward = twin(q, k, v, is_causal=True)
        for a, e in zip([y, *backward(q)], expected, strict=True):
            np.testing.assert_array_equal(to_numpy(a), to_numpy(e))
    assert y.transpose(0, 2, 1, 3).flags.c_contiguous  # so that the next product needs no copy


def split_of_projected(device):
    """The gradients that attention gives to queries, keys and values as a projection leaves them,
    and the backward of their split."""
    B, T, H, G, D = 2, 70, 4, 2, 32
    x = device.array(np.random.default_rng(0).standard_normal((B, T, H + 2 * G, D)), "float32")
    parts, backward = kernels.twin(ops.split, [x])(x, (H, G, G), 2)
    q, k, v = (part.transpose(0, 2, 1, 3) for part in parts)
    y, backward_of_attention = kernels.twin(ops.scaled_dot_product_attention, [q])(
        q, k, v, is_causal=True
    )
    return [dy.transpose(0, 2, 1, 3) for dy in backward_of_attention(y)], backward


def test_gradients_of_q_k_and_v_need_no_copy(device):
    with device.running():
        dys, backward = split_of_projected(device)
        (dx,) = backward(*dys)
    assert kernels.launch.address(dx) == kernels.launch.address(dys[0])
    np.testing.assert_array_equal(to_numpy(dx), np.concatenate([*map(to_numpy, dys)], axis=2))


@pytest.mark.parametrize(
    "change",
    [
        lambda q, k, v: (q.copy(), k, v),
        lambda q, k, v: (q, v, k),
        lambda q, k, v: (q[::-1], k[::-1], v[::-1]),
        lambda q, k, v: (q, k, v.copy()),
    ],
)
def test_gradients_that_lie_otherwise_are_copied(device, change):
    with device.running():
        dys, backward = split_of_projected(device)
        dys = change(*dys)
        (dx,) = backward(*dys)
    np.testing.assert_array_equal(to_numpy(dx), np.concatenate([*map(to_numpy, dys)], axis=2))


# ---- what kernels do not take -------------------------------------------------------------------

NOT_TAKEN = {
    "float64": (ops.gelu, [np.ones(3)]),
    "a width of 6": (ops.layer_norm, [np.ones((2, 6), "float32"), np.ones(6, "float32"), None]),
    "a width of 6148": (ops.layer_norm, [np.ones((1, 6148), "f4"), np.ones(6148, "f4"), None]),
    "heads of 16": (attention, [np.ones((1, 1, 3, 16), "float32")] * 3),
    "a mask": (
        functools.partial(attention, attn_mask=np.tri(3, dtype=bool)),
        [np.ones((1, 1, 3, 32), "float32")] * 3,
    ),
    "wide values": (attention, [np.ones((1, 1, 3, D), "float32") for D in (32, 32, 64)]),
    "a matrix for each": (ops.matmul, [np.ones((4, 3, 4), "f4"), np.ones((4, 4, 5), "f4")]),
    "two dtypes": (ops.rms_norm, [np.ones((2, 4), "float32"), np.ones(4)]),
    "a sum of width 6": (ops.add_rms_norm, [*[np.ones((2, 6), "float32")] * 2, np.ones(6, "f4")]),
    "a sum in two shapes": (
        ops.add_rms_norm,
        [np.ones((2, 4), "float32"), np.ones(4, "float32"), np.ones(4, "float32")],
    ),
    "ids of 32 bits": (ops.embedding, [np.zeros(3, "int32"), np.ones((2, 4), "float32")]),
}


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_what_a_kernel_does_not_take_the_op_does(emulator, case):
    f, arrays = NOT_TAKEN[case]
    op, options = getattr(f, "func", f), getattr(f, "keywords", {})
    with emulator.running():
        arrays = [None if a is None else emulator.array(a) for a in arrays]
        y, backward = kernels.twin(op, arrays)(*arrays, **options)
        expected, expected_backward = op(*arrays, **options)
        np.testing.assert_array_equal(y, expected)
        dys = results(expected)
        for a, e in zip(backward(*dys), expected_backward(*dys), strict=True):
            np.testing.assert_array_equal(a, e)


SMALL = {
    "an older GPU, or too little shared memory": ("shared_memory", lambda like: 48 << 10),
    "more heads than blocks": ("MOST_HEADS", 1),
}


@pytest.mark.parametrize("case", SMALL)
def test_attention_that_does_not_fit_is_left_to_the_op(emulator, monkeypatch, case):
    monkeypatch.setattr(kernels.attention, *SMALL[case])
    arrays = [emulator.array(x, "float32") for x in heads(1, 5, 5, 2, 2, 64)]
    with emulator.running():
        names = started(monkeypatch)
        kernels.twin(ops.scaled_dot_product_attention, arrays)(*arrays, is_causal=True)
    assert names == []


# ---- which of the two runs ----------------------------------------------------------------------


def started(monkeypatch):
    """The names of the kernels that run from now on."""
    names = []
    start = kernels.launch.LAUNCHERS[GPUArray]

    def noted(program, kernel, *rest):
        names.append(kernel)
        return start(program, kernel, *rest)

    monkeypatch.setitem(kernels.launch.LAUNCHERS, GPUArray, noted)
    return names


def test_twins_run_on_a_gpu_only_and_not_inside_plain(emulator, monkeypatch):
    x = np.linspace(-2, 2, 8, dtype="float32")
    with emulator.running():
        names = started(monkeypatch)
        assert kernels.twin(ops.gelu, [x]) is ops.gelu
        F.gelu(Tensor(x))
        with plain():
            inside = F.gelu(Tensor(to_gpu(x)))
        assert names == []
        y = F.gelu(Tensor(to_gpu(x), requires_grad=True))
        y.sum().backward()
        assert names == ["gelu_forward", "gelu_backward"]
    assert relative_error(y.data, inside.data) < 1e-6


def test_an_array_without_numbers_starts_nothing(emulator, monkeypatch):
    with emulator.running():
        names = started(monkeypatch)
        y = F.gelu(Tensor(to_gpu(np.ones((0, 4), "float32"))))
    assert (y.shape, names) == ((0, 4), [])


def test_a_wrong_argument_is_noticed(emulator):
    x = to_gpu(np.ones(3, "float32"))
    with emulator.running():
        for arguments in [
            (x, x),
            (x, x, 3.0),
            (x, np.ones(3, "float32"), 3),
            (x, x.astype("f8"), 3),
        ]:
            with pytest.raises(TypeError, match="argument"):
                kernels.launch.launch("gelu.cu", "gelu_forward", x, (1,), (32,), arguments)
        with pytest.raises(OverflowError):
            kernels.launch.launch("gelu.cu", "gelu_forward", x, (1,), (32,), (x, x, 2**31))
