"""Ops that move numbers: reshape, transpose, index, concatenate, split, where."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_checks import broadcasting, check_against_torch, check_op, examples, saved_bytes

from tinygpt import Tensor, ops
from tinygpt.cases import Draw

X = Draw(0)(3, 4, 5)
shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


@examples
@given(st.data())
def test_gradient_of_reshape_and_transpose(data):
    shape = data.draw(shapes)
    x, axes = Draw(0)(*shape), data.draw(st.permutations(range(len(shape))))
    check_op(functools.partial(ops.reshape, shape=shape[::-1]), x)
    check_op(functools.partial(ops.transpose, axes=tuple(axes)), x)
    check_op(ops.transpose, x)


@examples
@given(st.data())
def test_gradient_of_index_with_slices_and_numbers(data):
    shape = data.draw(shapes)
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    x, taken_nothing = Draw(0)(*shape), np.zeros(shape)[key].size == 0
    check_op(functools.partial(ops.index, key=key), x, allow_zero=("x",) if taken_nothing else ())


@examples
@given(st.data())
def test_gradient_of_index_with_arrays(data):
    shape = data.draw(shapes)
    places = hnp.array_shapes(min_dims=1, max_dims=2, max_side=4)
    key = data.draw(hnp.integer_array_indices(shape, result_shape=places))
    check_op(functools.partial(ops.index, key=key), Draw(0)(*shape))


@pytest.mark.parametrize(
    "key",
    [
        2,
        -1,
        (1, 2, 3),
        np.int64(1),
        slice(None, None, -2),
        (..., 0),
        None,
        ([2, 0, 2, 2],),
        (np.array([[2, 0], [2, 2]]), slice(None), 1),
        (slice(1, 3), np.array([0, 0, 3]), np.array([4, 4, 4])),
        (np.array([1, 1]), None, slice(None), np.array([2, 2])),
        X > 0,
        (X > 0)[:, :, 0],
        np.array([False, True, True]),
        True,
    ],
    ids=str,
)
def test_index_takes_every_key_that_numpy_takes(key):
    y, _ = ops.index(X, key)
    np.testing.assert_array_equal(y, X[key])
    check_op(functools.partial(ops.index, key=key), X)


def test_an_element_taken_twice_gets_both_gradients():
    _, backward = ops.index(np.array([10.0, 20.0, 30.0]), [2, 0, 2])
    np.testing.assert_array_equal(backward(np.array([1.0, 2.0, 3.0]))[0], [2, 0, 4])


def test_a_single_number_may_be_taken_and_used():
    x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    x[1].exp().backward()
    np.testing.assert_allclose(x.grad, [0, np.exp(2), 0])


@examples
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(0, 2))
def test_gradient_of_concatenate_and_split(sizes, axis):
    d = Draw(0)
    parts = [d(*[n if i == axis else i + 2 for i in range(3)]) for n in sizes]
    check_op(functools.partial(ops.concatenate, axis=axis), *parts)
    whole = np.concatenate(parts, axis)
    check_op(functools.partial(ops.split, sizes=sizes, axis=axis - 3), whole)


def test_split_undoes_concatenate_without_a_copy():
    x = Draw(0)(3, 10)
    parts, _ = ops.split(x, [5, 1, 4])
    assert [part.shape for part in parts] == [(3, 5), (3, 1), (3, 4)]
    assert all(part.base is x for part in parts)
    np.testing.assert_array_equal(ops.concatenate(*parts, axis=1)[0], x)


def test_split_says_when_sizes_do_not_add_up():
    with pytest.raises(ValueError, match=r"sizes \[2, 3\] add up to 5, not to 4"):
        ops.split(np.ones((3, 4)), [2, 3])


@examples
@given(broadcasting(3))
def test_gradient_of_where(shapes):
    d = Draw(0)
    condition = np.array(d.mask(*shapes[0]))
    nobody = [name for name, seen in (("a", condition), ("b", ~condition)) if not seen.any()]
    check_op(ops.where, condition, d(*shapes[1]), d(*shapes[2]), allow_zero=nobody)


def test_where_by_hand():
    condition = np.array([True, False, True])
    y, backward = ops.where(condition, np.array([1.0, 2.0, 3.0]), np.array([7.0]))
    np.testing.assert_array_equal(y, [1, 7, 3])
    none, da, db = backward(np.array([10.0, 20.0, 30.0]))
    assert none is None
    np.testing.assert_array_equal(da, [10, 0, 30])
    np.testing.assert_array_equal(db, [20])


def test_transpose_by_hand():
    y, backward = ops.transpose(X, (1, 2, 0))
    assert y.shape == (4, 5, 3)
    assert y[1, 2, 0] == X[0, 1, 2]
    np.testing.assert_array_equal(backward(y)[0], X)


def test_torch():
    d = Draw(0)
    check_against_torch(
        functools.partial(ops.transpose, axes=(1, 2, 0)), lambda torch, x: x.permute(1, 2, 0), X
    )
    check_against_torch(
        functools.partial(ops.index, key=([2, 0, 2], slice(1, 3))),
        lambda torch, x: x[[2, 0, 2], 1:3],
        X,
    )
    check_against_torch(
        functools.partial(ops.concatenate, axis=1),
        lambda torch, a, b: torch.cat([a, b], 1),
        d(3, 2),
        d(3, 4),
    )
    check_against_torch(
        functools.partial(ops.split, sizes=[1, 3]),
        lambda torch, x: torch.split(x, [1, 3], -1),
        d(2, 4),
    )
    check_against_torch(
        ops.where, lambda torch, c, a, b: torch.where(c, a, b), d.mask(3, 4), d(4), d(3, 1)
    )


def test_saves():
    ids = np.array([2, 0, 2])
    assert saved_bytes(functools.partial(ops.reshape, shape=(-1,)), X) == 0
    assert saved_bytes(ops.transpose, X) == 0
    assert saved_bytes(functools.partial(ops.index, key=1), X) == 0
    assert saved_bytes(functools.partial(ops.index, key=ids), X) == ids.nbytes
    assert saved_bytes(ops.concatenate, X, X) == 0
    assert saved_bytes(functools.partial(ops.split, sizes=[1, 4]), X) == 0
    assert saved_bytes(ops.where, X > 0, X, X) == X.size  # a byte each
