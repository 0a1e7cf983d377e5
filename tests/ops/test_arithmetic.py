"""Sums, products and powers of two arrays."""

import functools

import numpy as np
import pytest
from hypothesis import given
from op_checks import broadcasting, check_against_torch, check_op, examples, saved_bytes, shapes

from tinygpt import ops
from tinygpt.cases import Draw

d = Draw(0)
A, B = d.positive(3, 1, 5), d.positive(4, 1)  # y is (3, 4, 5)


@examples
@given(broadcasting(2))
@pytest.mark.parametrize("op", [ops.add, ops.subtract, ops.multiply, ops.divide, ops.power])
def test_gradient(op, shapes):
    d = Draw(0)
    check_op(op, d.positive(*shapes[0]), d.positive(*shapes[1]))


@examples
@given(shapes)
@pytest.mark.parametrize("exponent", [2, 3, -1, 0.5])
def test_gradient_of_power_with_a_number(exponent, shape):
    check_op(functools.partial(ops.power, b=exponent), Draw(0).positive(*shape))
    check_op(ops.negative, Draw(0)(*shape))


@pytest.mark.parametrize(
    ("op", "y", "da", "db"),
    [
        (ops.add, 8, 1, 1),
        (ops.subtract, 4, 1, -1),
        (ops.multiply, 12, 2, 6),
        (ops.divide, 3, 1 / 2, -3 / 2),
        (ops.power, 36, 12, 36 * np.log(6)),
    ],
)
def test_by_hand_at_6_and_2(op, y, da, db):
    value, backward = op(np.array(6.0), np.array(2.0))
    assert value == y
    np.testing.assert_allclose(backward(np.array(1.0)), [da, db], rtol=1e-15)


@pytest.mark.parametrize(
    ("op", "reference"),
    [
        (ops.add, lambda torch, a, b: a + b),
        (ops.subtract, lambda torch, a, b: a - b),
        (ops.multiply, lambda torch, a, b: a * b),
        (ops.divide, lambda torch, a, b: a / b),
        (ops.power, lambda torch, a, b: a**b),
    ],
)
def test_torch(op, reference):
    check_against_torch(op, reference, A, B)


def test_torch_of_one_array():
    check_against_torch(ops.negative, lambda torch, x: -x, A)
    check_against_torch(functools.partial(ops.power, b=3), lambda torch, x: x**3, -A)


def test_saves():
    y_size = 3 * 4 * 5
    assert saved_bytes(ops.add, A, B) == 0
    assert saved_bytes(ops.subtract, A, B) == 0
    assert saved_bytes(ops.negative, A) == 0
    assert saved_bytes(ops.multiply, A, B) == 8 * (A.size + B.size)
    assert saved_bytes(ops.divide, A, B) == 8 * (y_size + B.size)
    assert saved_bytes(ops.power, A, B) == 8 * (A.size + B.size + y_size)


def test_power_at_zero_and_below():
    y, backward = ops.power(np.array([0.0, -2.0]), 2)
    np.testing.assert_array_equal(y, [0, 4])
    np.testing.assert_array_equal(backward(np.ones(2))[0], [0, -4])
    assert backward(np.ones(2))[1] is None  # a plain number has no gradient

    y, backward = ops.power(np.array([0.0, -2.0]), np.array([2.0, 2.0]))
    np.testing.assert_array_equal(backward(np.ones(2)), [[0, -4], [0, 0]])


def test_power_of_a_number():
    """The number is a constant; only the exponents have a gradient."""
    x = np.array([-1.5, 0.5, 2.0])
    y, backward = ops.power(2.5, x)
    nothing, dx = backward(np.ones(3))
    assert nothing is None
    numeric = (2.5 ** (x + 1e-6) - 2.5 ** (x - 1e-6)) / 2e-6
    np.testing.assert_allclose(dx, numeric, rtol=1e-8)
    np.testing.assert_array_equal(ops.power(0.0, x[1:])[1](np.ones(2))[1], [0, 0])
