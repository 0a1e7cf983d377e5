"""The head of a language model and its loss, in one."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_checks import (
    assert_close,
    assert_same,
    check_against_torch,
    check_op,
    examples,
    matrices,
    run,
    saved_bytes,
)

from tinygpt import ops
from tinygpt.cases import Draw


@examples
@given(matrices, st.integers(1, 6), st.integers(0, 99))
def test_gradient(shape, V, seed):
    d = Draw(seed)
    targets = d.targets(V, *shape[:-1])
    nothing_to_learn = V == 1 or (targets == -1).all()
    check_op(
        ops.linear_cross_entropy,
        *(d(*shape), d(V, shape[-1]), targets),
        allow_zero=("x", "w") if nothing_to_learn else (),
    )


def test_by_hand():
    x, w = np.array([[1.0]]), np.log([[1.0], [3.0]])  # logits 0 and log 3: p is 1/4, 3/4
    loss, backward = ops.linear_cross_entropy(x, w, np.array([0]))
    assert loss == pytest.approx(np.log(4), rel=1e-15)
    dx, dw, none = backward(np.array(1.0))  # dlogits: -3/4, 3/4
    np.testing.assert_allclose(dx, [[3 / 4 * np.log(3)]], rtol=1e-15)
    np.testing.assert_allclose(dw, [[-3 / 4], [3 / 4]], rtol=1e-15)
    assert none is None


def test_torch():
    d = Draw(0)
    check_against_torch(
        ops.linear_cross_entropy,
        lambda torch, x, w, ids: torch.nn.functional.cross_entropy(
            (x @ w.T).reshape(-1, 7), ids.reshape(-1), ignore_index=-1
        ),
        *(d(2, 5, 3), d(7, 3), d.targets(7, 2, 5)),
    )


def test_saves_one_copy_of_the_logits():
    d, (N, C, V) = Draw(0), (10, 3, 7)
    x, w, targets = d(N, C), d(V, C), d.ids(V, N)
    # x, w, e^logits; counted and total (N,)
    assert saved_bytes(ops.linear_cross_entropy, x, w, targets) == 8 * (
        N * C + V * C + N * V + 2 * N
    )


@pytest.mark.parametrize("seed", range(5))
def test_is_cross_entropy_of_a_product(seed):
    d = Draw(seed)
    x, w, targets, dloss = d(4, 5, 3), d(7, 3), d.targets(7, 4, 5), np.array(1.7)
    loss, backward = ops.linear_cross_entropy(x, w, targets)
    logits, product_backward = ops.matmul(x, w.T)
    expected, loss_backward = ops.cross_entropy(logits, targets)
    dx, dw_transposed = product_backward(loss_backward(dloss)[0])

    assert_close(loss, expected, 1e-15)
    assert_close(backward(dloss)[0], dx, 1e-15)
    assert_close(backward(dloss)[1], dw_transposed.T, 1e-15)


def test_no_target_at_all_is_a_loss_of_0():
    d = Draw(0)
    loss, backward = ops.linear_cross_entropy(d(3, 2), d(4, 2), np.full(3, -1))
    assert loss == 0
    for gradient in backward(np.array(1.0))[:2]:
        assert not gradient.any()


def test_what_stands_where_the_target_is_ignored_does_not_matter():
    d = Draw(0)
    x, w, targets = d(9, 3), d(7, 3), d.targets(7, 9)
    loss, backward = ops.linear_cross_entropy(x, w, targets)
    counted = targets != -1
    kept_loss, kept_backward = ops.linear_cross_entropy(x[counted], w, targets[counted])
    (dx, dw, _), (kept_dx, kept_dw, _) = backward(np.array(1.0)), kept_backward(np.array(1.0))
    assert_close(loss, kept_loss, 1e-15)
    assert_close(dw, kept_dw, 1e-15)
    assert_close(dx[counted], kept_dx, 1e-15)
    assert not dx[~counted].any()


def test_another_ignore_index():
    d = Draw(0)
    x, w, targets = d(9, 3), d(7, 3), d.targets(7, 9)
    _, _, expected = run(ops.linear_cross_entropy, x, w, targets)
    other = functools.partial(ops.linear_cross_entropy, ignore_index=-100)
    _, _, found = run(other, x, w, np.where(targets == -1, -100, targets))
    for actual, gradient in zip(found, expected, strict=True):
        assert_same(actual, gradient)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand_stay_finite(dtype):
    x, w = np.full((2, 1), 100, dtype), np.array([[100], [0]], dtype)
    loss, backward = ops.linear_cross_entropy(x, w, np.array([0, 1]))
    assert loss == 5000
    dx, dw, _ = backward(np.array(1, dtype))
    np.testing.assert_array_equal(dx, [[0], [50]])
    np.testing.assert_array_equal(dw, [[50], [-50]])


def test_gradients_that_nobody_needs_are_left_out():
    d = Draw(0)
    loss, backward = ops.linear_cross_entropy(d(4, 3), d(7, 3), d.ids(7, 4))
    dx, dw, _ = backward(loss)
    assert_close(backward(loss, needs=(True, False, False))[0], dx)
    assert_close(backward(loss, needs=(False, True, False))[1], dw)
    assert backward(loss, needs=(True, False, False))[1] is None
    assert backward(loss, needs=(False, True, False))[0] is None
