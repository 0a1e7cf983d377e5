"""Matrix product."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from op_checks import (
    assert_close,
    broadcasting,
    check_against_torch,
    check_op,
    examples,
    saved_bytes,
)

from tinygpt import ops
from tinygpt.cases import Draw

sizes = st.integers(1, 4)


@examples
@given(broadcasting(2), sizes, sizes, sizes)
def test_gradient(leading, M, K, N):
    d = Draw(0)
    check_op(ops.matmul, d(*leading[0], M, K), d(*leading[1], K, N))


def test_by_hand():
    a, b = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
    y, backward = ops.matmul(a, b)
    np.testing.assert_array_equal(y, [[11]])
    da, db = backward(np.array([[10.0]]))
    np.testing.assert_array_equal(da, [[30, 40]])
    np.testing.assert_array_equal(db, [[10], [20]])


def test_torch():
    d = Draw(0)
    for a, b in [((3, 5), (5, 2)), ((2, 1, 3, 5), (4, 5, 2)), ((2, 4, 3, 5), (5, 6))]:
        check_against_torch(ops.matmul, lambda torch, a, b: a @ b, d(*a), d(*b))


def test_saves_a_and_b_also_when_rows_are_flattened():
    a, b = Draw(0)(2, 3, 5), Draw(0)(5, 4)
    assert saved_bytes(ops.matmul, a[0], b) == a.nbytes + b.nbytes  # a[0] is a view of a
    assert saved_bytes(ops.matmul, a, b) == a.nbytes + b.nbytes


def test_gradients_that_nobody_needs_are_left_out():
    d = Draw(0)
    for a, b in [((3, 5), (5, 2)), ((2, 3, 5), (5, 2)), ((2, 3, 5), (2, 5, 2))]:
        y, backward = ops.matmul(d(*a), d(*b))
        da, db = backward(y)
        assert_close(backward(y, needs=(True, False))[0], da)
        assert_close(backward(y, needs=(False, True))[1], db)
        assert backward(y, needs=(True, False))[1] is None
        assert backward(y, needs=(False, True))[0] is None
