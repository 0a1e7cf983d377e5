"""Embedding: rows of a table, looked up by number."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from op_checks import assert_close, check_against_torch, check_op, examples, saved_bytes, shapes

from tinygpt import ops
from tinygpt.cases import Draw


@examples
@given(shapes, st.integers(1, 9), st.integers(1, 4))
def test_gradient(places, V, C):
    d = Draw(0)
    check_op(ops.embedding, np.asarray(d.ids(V, *places)), d(V, C))


def test_by_hand_with_a_repeat():
    w = np.array([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]])
    y, backward = ops.embedding(np.array([2, 0, 2]), w)
    np.testing.assert_array_equal(y, [[20, 21], [0, 1], [20, 21]])
    none, dw = backward(np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]]))
    assert none is None
    np.testing.assert_array_equal(dw, [[3, 4], [0, 0], [11, 22]])


def test_torch():
    d = Draw(0)
    check_against_torch(
        ops.embedding,
        lambda torch, ids, w: torch.nn.functional.embedding(ids, w),
        d.ids(5, 3, 7),
        d(5, 2),
    )


def test_saves_only_ids():
    ids, w = Draw(0).ids(5, 3, 7), Draw(0)(5, 2)
    assert saved_bytes(ops.embedding, ids, w) == ids.nbytes


def test_is_a_product_with_a_one_hot_matrix():
    d = Draw(0)
    ids, w, dy = d.ids(50, 200), d(50, 3), d(200, 3)
    y, backward = ops.embedding(ids, w)
    hot = np.eye(50)[ids]
    assert_close(y, hot @ w)
    assert_close(backward(dy)[1], hot.T @ dy)


def test_ids_of_any_int_dtype():
    w = Draw(0)(5, 2)
    for dtype in ("uint8", "uint16", "int32", "int64"):
        y, backward = ops.embedding(np.array([4, 0, 4], dtype), w)
        np.testing.assert_array_equal(y, w[[4, 0, 4]])
        np.testing.assert_array_equal(backward(np.ones((3, 2)))[1][:, 0], [1, 0, 0, 0, 2])
