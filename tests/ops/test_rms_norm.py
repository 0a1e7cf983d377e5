"""Root-mean-square normalisation."""

import functools

import numpy as np
from hypothesis import given
from hypothesis.extra import numpy as hnp
from op_checks import assert_close, check_against_torch, check_op, examples, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw

rows = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5).filter(lambda s: s[-1] > 1)


@examples
@given(rows)
def test_gradient(shape):
    d = Draw(0)
    check_op(ops.rms_norm, d(*shape), d(shape[-1]))
    check_op(functools.partial(ops.rms_norm, eps=0.5), d(*shape))


def test_by_hand():
    x, w = np.array([[1.0, 7.0]]), np.array([10.0, 1.0])  # rms: sqrt(50 / 2) = 5
    y, backward = ops.rms_norm(x, w, eps=0)
    np.testing.assert_allclose(y, [[2, 1.4]], rtol=1e-15)
    dx, dw = backward(np.array([[1.0, 0.0]]))
    # r = 1/5, dx_hat = [10 0], mean(dx_hat x_hat) = 1: (10 - 0.2) / 5 and (0 - 1.4) / 5
    np.testing.assert_allclose(dx, [[1.96, -0.28]], rtol=1e-14)
    np.testing.assert_allclose(dw, [0.2, 0], rtol=1e-15)


def test_torch():
    d = Draw(0)
    check_against_torch(
        functools.partial(ops.rms_norm, eps=0.1),
        lambda torch, x, w: torch.nn.functional.rms_norm(x, (5,), w, 0.1),
        *(d(2, 3, 5), d(5)),
    )


def test_saves_x_hat_w_and_a_number_per_row():
    x, w = Draw(0)(2, 3, 5), Draw(0)(5)
    assert saved_bytes(ops.rms_norm, x, w) == 8 * (x.size + w.size + 2 * 3)
    assert saved_bytes(ops.rms_norm, x) == 8 * (x.size + 2 * 3)


def test_size_does_not_matter_and_the_gradient_does_not_change_it():
    x = Draw(0)(4, 100)
    y, backward = ops.rms_norm(x, eps=0)
    assert_close(ops.rms_norm(1000 * x, eps=0)[0], y, 1e-14)
    assert_close(np.square(y).mean(axis=-1), np.ones(4), 1e-14)
    dx, _ = backward(Draw(1)(4, 100))
    assert_close((dx * x).sum(axis=-1), np.zeros(4), 1e-13)
