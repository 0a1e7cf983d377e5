"""Functions of one number, applied to every element."""

import functools

import numpy as np
import pytest
from hypothesis import given
from op_checks import check_against_torch, check_op, examples, saved_bytes, shapes

from tinygpt import ops
from tinygpt.cases import Draw

OPS = {  # op: what torch computes, y and dx at 1
    ops.exp: (lambda torch, x: torch.exp(x), np.e, np.e),
    ops.log: (lambda torch, x: torch.log(x), 0, 1),
    ops.tanh: (lambda torch, x: torch.tanh(x), 0.7615941559557649, 0.41997434161402614),
    ops.sigmoid: (lambda torch, x: torch.sigmoid(x), 0.7310585786300049, 0.19661193324148185),
    ops.relu: (lambda torch, x: torch.relu(x), 1, 1),
    ops.relu2: (lambda torch, x: torch.relu(x) ** 2, 1, 2),
    ops.silu: (
        lambda torch, x: torch.nn.functional.silu(x),
        0.7310585786300049,
        0.9276705118714867,
    ),
    functools.partial(ops.softcap, cap=2.0): (
        lambda torch, x: 2 * torch.tanh(x / 2),
        0.9242343145200195,
        0.7864477329659274,
    ),
}
every_op = pytest.mark.parametrize("op", OPS)


def numbers(op, *shape, rng=0):
    """Where the op is smooth: above 0 for log, away from 0 for the others."""
    return Draw(rng).positive(*shape) if op is ops.log else Draw(rng).apart(*shape)


@every_op
@examples
@given(shapes)
def test_gradient(op, shape):
    check_op(op, np.asarray(numbers(op, *shape)))


@every_op
def test_by_hand_at_1(op):
    y, backward = op(np.array(1.0))
    np.testing.assert_allclose([y, *backward(np.array(1.0))], OPS[op][1:], rtol=1e-14)


@every_op
def test_torch(op):
    check_against_torch(op, OPS[op][0], numbers(op, 4, 5))


@every_op
def test_saves_one_array_or_for_silu_two(op):
    x = numbers(op, 4, 5)
    assert saved_bytes(op, x) == x.nbytes * (2 if op is ops.silu else 1)


@pytest.mark.parametrize("op", [ops.sigmoid, ops.tanh, ops.silu, ops.relu])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_far_from_zero(op, dtype):
    x = np.array([-1e30, -1e4, -50, 50, 1e4, 1e30], dtype)
    y, backward = op(x)
    (dx,) = backward(np.ones_like(x))
    low, high, slope = {ops.tanh: (-1, 1, 0), ops.sigmoid: (0, 1, 0)}.get(op, (0, x[3:], 1))
    np.testing.assert_allclose(y[:3], low, atol=1e-19)
    np.testing.assert_allclose(y[3:], high, rtol=1e-7)
    np.testing.assert_allclose(dx, [0, 0, 0, slope, slope, slope], rtol=1e-7, atol=1e-18)


def test_the_kink_of_relu_has_gradient_0():
    for op in (ops.relu, ops.relu2):
        _, backward = op(np.array([0.0, -0.0]))
        np.testing.assert_array_equal(backward(np.ones(2)), [[0, 0]])
