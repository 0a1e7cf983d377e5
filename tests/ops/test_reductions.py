"""Many numbers into one: sum, mean, max."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_checks import check_against_torch, check_op, examples, matrices, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw

every_op = pytest.mark.parametrize("op", [ops.sum, ops.mean, ops.max])


@every_op
@examples
@given(st.data())
def test_gradient(op, data):
    shape = data.draw(matrices)
    axis = data.draw(st.none() | hnp.valid_tuple_axes(len(shape), min_size=1))
    keepdims = data.draw(st.booleans())
    check_op(functools.partial(op, axis=axis, keepdims=keepdims), Draw(0).apart(*shape))


X = np.array([[1.0, 5.0, 3.0], [4.0, 2.0, 0.0]])


@pytest.mark.parametrize(
    ("op", "y", "dx"),
    [
        (ops.sum, [9, 6], [[1, 1, 1], [10, 10, 10]]),
        (ops.mean, [3, 2], [[1 / 3, 1 / 3, 1 / 3], [10 / 3, 10 / 3, 10 / 3]]),
        (ops.max, [5, 4], [[0, 1, 0], [10, 0, 0]]),
    ],
)
def test_by_hand(op, y, dx):
    value, backward = op(X, axis=1)
    np.testing.assert_array_equal(value, y)
    np.testing.assert_allclose(backward(np.array([1.0, 10.0]))[0], dx, rtol=1e-15)


@every_op
def test_other_axes_stay(op):
    assert op(np.ones((1, 3, 1)), axis=1)[0].shape == (1, 1)


@pytest.mark.parametrize("axis", [(0, 1, 2), 0, -1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_torch(axis, keepdims):
    x = Draw(0)(2, 3, 4)
    torch_ops = [(ops.sum, "sum"), (ops.mean, "mean"), (ops.max, "amax")]
    for op, name in torch_ops:
        check_against_torch(
            functools.partial(op, axis=axis, keepdims=keepdims),
            lambda torch, x, name=name: getattr(torch, name)(x, dim=axis, keepdim=keepdims),
            x,
        )


def test_torch_in_a_tie():
    x = np.array([[2.0, 2.0, 1.0], [3.0, 3.0, 3.0]])
    check_against_torch(
        functools.partial(ops.max, axis=1), lambda torch, x: torch.amax(x, dim=1), x
    )


def test_a_tie_shares_the_gradient():
    _, backward = ops.max(np.array([2.0, 2.0, 1.0]))
    np.testing.assert_array_equal(backward(np.array(6.0))[0], [3, 3, 0])


def test_saves():
    x = Draw(0)(4, 5)
    assert saved_bytes(ops.sum, x) == 0
    assert saved_bytes(ops.mean, x) == 0
    assert saved_bytes(functools.partial(ops.max, axis=1), x) == x.nbytes + 4 * 8


def test_the_gradient_of_a_sum_takes_no_memory():
    _, backward = ops.sum(np.ones((1000, 1000)))
    (dx,) = backward(np.array(1.0))
    assert dx.shape == (1000, 1000)
    assert dx.strides == (0, 0)
