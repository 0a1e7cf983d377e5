"""Log-softmax: scores into log-probabilities."""

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
    of_one = shape[axis] == 1
    check_op(
        functools.partial(ops.log_softmax, axis=axis),
        Draw(0)(*shape),
        allow_zero=("x",) if of_one else (),
    )


def test_by_hand():
    y, backward = ops.log_softmax(np.log([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(y, np.log([[1 / 8, 2 / 8, 5 / 8]]), rtol=1e-14)
    (dx,) = backward(np.array([[8.0, 0.0, 0.0]]))  # dy_j - p_j sum_i dy_i
    np.testing.assert_allclose(dx, [[7, -2, -5]], rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_torch(axis):
    check_against_torch(
        functools.partial(ops.log_softmax, axis=axis),
        lambda torch, x: torch.log_softmax(x, axis),
        Draw(0)(3, 4, 5),
    )


def test_saves_y():
    x = Draw(0)(4, 5)
    assert saved_bytes(ops.log_softmax, x) == x.nbytes


def test_is_the_logarithm_of_softmax():
    x = Draw(0)(4, 5)
    assert_close(ops.log_softmax(x)[0], np.log(ops.softmax(x)[0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_far_apart_stay_finite(dtype):
    y, backward = ops.log_softmax(np.array([1e4, 0, -1e4], dtype))
    np.testing.assert_array_equal(y, [0, -1e4, -2e4])
    np.testing.assert_array_equal(backward(np.ones(3, dtype))[0], [-2, 1, 1])


def test_a_number_added_to_all_scores_changes_nothing():
    x = np.round(8 * Draw(0)(4, 5))
    np.testing.assert_array_equal(ops.log_softmax(x + 1000)[0], ops.log_softmax(x)[0])
