"""Softmax: scores into probabilities."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_checks import assert_close, check_against_torch, check_op, examples, matrices, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw


@examples
@given(matrices, st.data())
def test_gradient(shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    of_one = shape[axis] == 1  # one score has probability 1 whatever it is
    check_op(
        functools.partial(ops.softmax, axis=axis),
        Draw(0)(*shape),
        allow_zero=("x",) if of_one else (),
    )


def test_by_hand():
    y, backward = ops.softmax(np.log([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(y, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-15)
    (dx,) = backward(np.array([[8.0, 0.0, 0.0]]))  # y_j (dy_j - sum_i dy_i y_i), the sum being 1
    np.testing.assert_allclose(dx, [[7 / 8, -2 / 8, -5 / 8]], rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_torch(axis):
    check_against_torch(
        functools.partial(ops.softmax, axis=axis),
        lambda torch, x: torch.softmax(x, axis),
        Draw(0)(3, 4, 5),
    )


def test_saves_y():
    x = Draw(0)(4, 5)
    assert saved_bytes(ops.softmax, x) == x.nbytes


@pytest.mark.parametrize("axis", [0, 1])
def test_sums_to_one(axis):
    y, backward = ops.softmax(10 * Draw(0)(4, 5), axis=axis)
    assert y.min() >= 0
    assert_close(y.sum(axis=axis), np.ones(y.shape[1 - axis]), 1e-15)
    (dx,) = backward(Draw(1)(4, 5))
    assert_close(dx.sum(axis=axis), np.zeros(y.shape[1 - axis]), 1e-15)  # so nothing can be gained


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_number_added_to_all_scores_changes_nothing(dtype):
    x = np.round(8 * Draw(0)(4, 5)).astype(dtype)  # x + 1000 is then exact
    np.testing.assert_array_equal(ops.softmax(x + 1000)[0], ops.softmax(x)[0])
    np.testing.assert_array_equal(ops.softmax(x - 1000)[0], ops.softmax(x)[0])


def test_a_score_of_minus_infinity_has_probability_0():
    y, backward = ops.softmax(np.array([0.0, -np.inf, 0.0]))
    np.testing.assert_array_equal(y, [0.5, 0, 0.5])
    np.testing.assert_array_equal(backward(np.array([1.0, 5.0, 0.0]))[0], [0.25, 0, -0.25])
