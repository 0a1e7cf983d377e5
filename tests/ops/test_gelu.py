"""GELU in both forms, and the error function beneath the exact one."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from op_checks import check_against_torch, check_op, examples, matrices, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw
from tinygpt.ops.gelu import erf, normal_cdf

both = pytest.mark.parametrize("op", [ops.gelu, ops.gelu_tanh])


@both
@examples
@given(matrices)
def test_gradient(op, shape):
    check_op(op, 2 * Draw(0)(*shape))


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_change_no_bit(op, dtype, monkeypatch):
    x = Draw(0)(5, 8).astype(dtype)[:, 1:]  # not contiguous
    y, backward = op(x)
    expected = y, *backward(np.cos(x))
    monkeypatch.setattr(sys.modules[op.__module__], "BLOCK", 4)
    y, backward = op(x)
    for found, array in zip((y, *backward(np.cos(x))), expected, strict=True):
        np.testing.assert_array_equal(found, array)


@both
def test_by_hand(op):
    """y = x P(x): at 0 it is 0 with slope P(0) = 1/2. P(x) + P(-x) = 1, so y(x) - y(-x) = x."""
    x = np.array([0.0, 1.0, 2.5])
    y, backward = op(x)
    np.testing.assert_allclose(y[:2], [0, 0.84134], atol=2e-4)
    np.testing.assert_allclose(y - op(-x)[0], x, rtol=1e-15)
    assert backward(np.ones(3))[0][0] == 0.5


def test_torch():
    x = 3 * Draw(0)(4, 50)
    check_against_torch(ops.gelu, lambda torch, x: torch.nn.functional.gelu(x), x)
    check_against_torch(
        ops.gelu_tanh, lambda torch, x: torch.nn.functional.gelu(x, approximate="tanh"), x
    )


@both
def test_saves_x_and_one_more(op):
    x = Draw(0)(4, 5)
    assert saved_bytes(op, x) == 2 * x.nbytes


def test_erf_is_good_to_1e_15():
    x = np.concatenate([np.linspace(-8, 8, 20001), np.geomspace(1e-300, 100, 999), [-0.0, 1e308]])
    expected = np.array([math.erf(value) for value in x])
    assert np.abs(erf(x) - expected).max() <= 1e-15


def test_normal_cdf_of_float32_stays_float32_and_between_0_and_1():
    x = np.linspace(-50, 50, 10001, dtype="float32")
    y = normal_cdf(x)
    assert y.dtype == "float32"
    assert y.min() >= 0
    assert y.max() <= 1
    assert np.all(np.diff(y) > -1e-6)
    np.testing.assert_array_equal(normal_cdf(np.array([-1e18, 1e18], "float32")), [0, 1])


@pytest.mark.parametrize(
    ("op", "far"),
    [
        (ops.gelu, 50),
        (ops.gelu, 1e18),
        (ops.gelu_tanh, 50),
        (ops.gelu_tanh, 1e10),
    ],
)
def test_far_from_zero_in_float32(op, far):
    """There it is relu."""
    x = np.array([-far, far], "float32")
    y, backward = op(x)
    np.testing.assert_array_equal(y, [0, x[1]])
    np.testing.assert_array_equal(backward(np.ones_like(x))[0], [0, 1])


def test_float32_has_a_polynomial_of_its_own():
    x = np.linspace(-9, 9, 20001, dtype="float32")
    expected = normal_cdf(x.astype("float64"))
    np.testing.assert_allclose(normal_cdf(x), expected, rtol=0, atol=2e-7)
