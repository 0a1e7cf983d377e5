"""Layer normalisation."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from op_checks import assert_close, check_against_torch, check_op, examples, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw

rows = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5).filter(lambda s: s[-1] > 2)


@examples
@given(rows)
def test_gradient(shape):
    d, C = Draw(0), shape[-1]
    check_op(ops.layer_norm, d(*shape), d(C), d(C))
    check_op(functools.partial(ops.layer_norm, eps=0.5), d(*shape), d(C))


def test_by_hand():
    x, w, b = np.array([[1.0, 3.0, 1.0, 3.0]]), np.array([1.0, 1.0, 2.0, 2.0]), np.full(4, 10.0)
    y, backward = ops.layer_norm(x, w, b, eps=0)  # mean 2, standard deviation 1
    np.testing.assert_allclose(y, [[9, 11, 8, 12]], rtol=1e-15)
    dx, dw, db = backward(np.array([[1.0, 0.0, 0.0, 0.0]]))
    # 1/r = 1, dx_hat = [1 0 0 0]: minus its mean 1/4, minus x_hat times mean(dx_hat x_hat) = -1/4
    np.testing.assert_allclose(dx, [[1 / 2, 0, -1 / 2, 0]], atol=1e-15)
    np.testing.assert_allclose(dw, [-1, 0, 0, 0], atol=1e-15)
    np.testing.assert_array_equal(db, [1, 0, 0, 0])


@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_torch(eps):
    d = Draw(0)
    check_against_torch(
        functools.partial(ops.layer_norm, eps=eps),
        lambda torch, x, w, b: torch.nn.functional.layer_norm(x, (5,), w, b, eps),
        *(d(2, 3, 5), d(5), d(5)),
    )


def test_saves_x_hat_w_and_a_number_per_row():
    d = Draw(0)
    x, w, b = d(2, 3, 5), d(5), d(5)
    assert saved_bytes(ops.layer_norm, x, w) == 8 * (x.size + 5 + 2 * 3)
    assert saved_bytes(ops.layer_norm, x, w, b) == 8 * (x.size + 5 + 2 * 3 + 5)


def test_rows_have_mean_0_and_variance_1_and_their_gradient_neither_shifts_nor_scales_them():
    x, ones = 3 + 5 * Draw(0)(4, 100), np.ones(100)
    y, backward = ops.layer_norm(x, ones, eps=0)
    assert_close(y.mean(axis=-1), np.zeros(4), 1e-14)
    assert_close(y.var(axis=-1), np.ones(4), 1e-14)
    dx = backward(Draw(1)(4, 100))[0]
    assert_close(dx.sum(axis=-1), np.zeros(4), 1e-13)
    assert_close((dx * x).sum(axis=-1), np.zeros(4), 1e-12)


def test_far_from_zero_in_float32():
    """The mean is subtracted before squaring, so large means do not drown small variances."""
    x = Draw(0)(4, 64).astype("float32") + np.float32(1000)
    y, _ = ops.layer_norm(x, np.ones(64, "float32"))
    expected, _ = ops.layer_norm(x.astype("float64"), np.ones(64))
    assert np.abs(y - expected).max() < 1e-3
