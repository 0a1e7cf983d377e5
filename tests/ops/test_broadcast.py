"""unbroadcast: a value that was copied to many places gets the sum of their gradients."""

import numpy as np
from hypothesis import given
from op_checks import assert_close, broadcasting, examples

from tinygpt.cases import Draw
from tinygpt.ops.broadcast import unbroadcast


def test_by_hand():
    dy = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    np.testing.assert_array_equal(unbroadcast(dy, (2, 3)), dy)
    np.testing.assert_array_equal(unbroadcast(dy, (3,)), [11, 22, 33])
    np.testing.assert_array_equal(unbroadcast(dy, (1, 3)), [[11, 22, 33]])
    np.testing.assert_array_equal(unbroadcast(dy, (2, 1)), [[6], [60]])
    np.testing.assert_array_equal(unbroadcast(dy, ()), 66)


@examples
@given(broadcasting(2))
def test_it_is_the_transpose_of_broadcasting(shapes):
    d = Draw(0)
    x, dy = d(*shapes[0]), d(*np.broadcast_shapes(*shapes))
    dx = unbroadcast(dy, x.shape)
    assert dx.shape == x.shape
    assert_close(
        (dx * x).sum(), (dy * np.broadcast_to(x, dy.shape)).sum()
    )  # <B^T dy, x> = <dy, B x>


def test_an_array_that_was_not_stretched_comes_back_as_it_is():
    dy = np.ones((2, 3))
    assert unbroadcast(dy, (2, 3)) is dy
