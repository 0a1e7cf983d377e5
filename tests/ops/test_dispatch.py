"""Dispatch and combine: rows to those who compute them, and back."""

import functools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from op_checks import assert_close, check_against_torch, check_op, examples, run, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw

sizes = st.integers(1, 4)


@examples
@given(sizes, sizes, sizes, st.integers(0, 99))
def test_gradient(N, k, C, seed):
    d = Draw(seed)
    order = d.order(N * k)
    check_op(functools.partial(ops.dispatch, order=order), d(N, C))
    check_op(functools.partial(ops.combine, order=order), d(N * k, C), d(N, k))


def test_by_hand():
    x, order = np.array([[1.0], [2.0]]), np.array([3, 0, 2, 1])  # copies of rows 1, 0, 1, 0
    y, backward = ops.dispatch(x, order)
    np.testing.assert_array_equal(y, [[2], [1], [2], [1]])
    dx, no_gradient = backward(np.array([[1.0], [10.0], [100.0], [1000.0]]))
    np.testing.assert_array_equal(dx, [[1010], [101]])
    assert no_gradient is None

    gates = np.array([[0.5, 2.0], [3.0, 4.0]])  # of copies 0, 1 and 2, 3
    z, backward = ops.combine(np.array([[1.0], [10.0], [100.0], [1000.0]]), gates, order)
    np.testing.assert_array_equal(z, [[0.5 * 10 + 2 * 1000], [3 * 100 + 4 * 1]])
    dx, dgates, no_gradient = backward(np.array([[1.0], [-1.0]]))
    np.testing.assert_array_equal(dx, [[-4], [0.5], [-3], [2]])
    np.testing.assert_array_equal(dgates, [[10, 1000], [-100, -1]])
    assert no_gradient is None


def test_torch():
    d = Draw(0)
    order = d.order(6)
    where = np.argsort(order).reshape(3, 2)
    check_against_torch(
        functools.partial(ops.dispatch, order=order),
        lambda torch, x: x.repeat_interleave(2, dim=0)[torch.tensor(order)],
        d(3, 5),
    )
    check_against_torch(
        functools.partial(ops.combine, order=order),
        lambda torch, x, gates: (x[torch.tensor(where)] * gates[..., None]).sum(1),
        *(d(6, 5), d(3, 2)),
    )


def test_each_is_the_transpose_of_the_other():
    d = Draw(0)
    order = d.order(8)
    _, (dy,), (dx,) = run(functools.partial(ops.dispatch, order=order), d(4, 3))
    assert_close(dx, ops.combine(dy, np.ones((4, 2)), order)[0])
    _, (dz,), (dy, _) = run(functools.partial(ops.combine, order=order), d(8, 3), np.ones((4, 2)))
    assert_close(dy, ops.dispatch(dz, order)[0])


def test_saves():
    d = Draw(0)
    x, copies, gates, order = d(4, 3), d(8, 3), d(4, 2), d.order(8)
    assert saved_bytes(ops.dispatch, x, order) == order.nbytes
    assert saved_bytes(ops.combine, copies, gates, order) == (
        copies.nbytes + gates.nbytes + order.nbytes
    )
