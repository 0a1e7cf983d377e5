"""A linear layer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from op_checks import assert_close, check_against_torch, check_op, examples, matrices, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw


@examples
@given(matrices, st.integers(1, 4))
def test_gradient(shape, N):
    d = Draw(0)
    check_op(ops.linear, d(*shape), d(shape[-1], N), d(N))
    check_op(ops.linear, d(*shape), d(shape[-1], N))


def test_by_hand():
    x, w, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[10.0], [1.0]]), np.array([0.5])
    y, backward = ops.linear(x, w, b)
    np.testing.assert_array_equal(y, [[12.5], [34.5]])
    dx, dw, db = backward(np.array([[1.0], [2.0]]))
    np.testing.assert_array_equal(dx, [[10, 1], [20, 2]])
    np.testing.assert_array_equal(dw, [[7], [10]])
    np.testing.assert_array_equal(db, [3])


def test_torch():
    d = Draw(0)
    arrays = d(2, 4, 3), d(3, 5), d(5)
    check_against_torch(
        ops.linear, lambda torch, x, w, b: torch.nn.functional.linear(x, w.T, b), *arrays
    )


def test_saves_x_and_w():
    d = Draw(0)
    x, w, b = d(2, 4, 3), d(3, 5), d(5)
    assert saved_bytes(ops.linear, x, w) == x.nbytes + w.nbytes
    assert saved_bytes(ops.linear, x, w, b) == x.nbytes + w.nbytes + b.nbytes


def test_gradients_that_nobody_needs_are_left_out():
    d = Draw(0)
    y, backward = ops.linear(d(2, 4, 3), d(3, 5), d(5))
    dx, dw, db = backward(y)
    none, only_dw, _ = backward(y, needs=(False, True, True))
    assert none is None
    assert_close(only_dw, dw)
    only_dx, none, _ = backward(y, needs=(True, False, True))
    assert none is None
    assert_close(only_dx, dx)
