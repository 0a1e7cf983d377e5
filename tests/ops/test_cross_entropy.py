"""Cross-entropy: how surprised a model is by what came."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_checks import (
    assert_close,
    assert_same,
    check_against_torch,
    check_op,
    examples,
    matrices,
    saved_bytes,
)

from tinygpt import ops
from tinygpt.cases import Draw


@examples
@given(matrices, st.integers(0, 99))
def test_gradient(shape, seed):
    d = Draw(seed)
    targets = d.targets(shape[-1], *shape[:-1])
    nothing_to_learn = shape[-1] == 1 or (targets == -1).all()
    check_op(
        ops.cross_entropy,
        *(d(*shape), targets),
        allow_zero=("logits",) if nothing_to_learn else (),
    )


def test_by_hand():
    logits = np.log([[1.0, 3.0], [1.0, 1.0], [5.0, 5.0]])  # p: 1/4 3/4, 1/2 1/2, ...
    loss, backward = ops.cross_entropy(logits, np.array([0, 1, -1]))
    assert loss == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-15)
    dlogits, none = backward(np.array(2.0))  # 2 / 2 (p - one_hot)
    assert none is None
    np.testing.assert_allclose(dlogits, [[-3 / 4, 3 / 4], [1 / 2, -1 / 2], [0, 0]], rtol=1e-14)


def test_torch():
    d = Draw(0)
    check_against_torch(
        ops.cross_entropy,
        lambda torch, x, ids: torch.nn.functional.cross_entropy(
            x.reshape(-1, 7), ids.reshape(-1), ignore_index=-1
        ),
        *(d(2, 5, 7), d.targets(7, 2, 5)),
    )


def test_saves_e_to_the_logits():
    d, N, V = Draw(0), 10, 7
    logits, targets = d(N, V), d.ids(V, N)
    # e (N, V); counted, total, and the rows and columns of the targets (N,)
    assert saved_bytes(ops.cross_entropy, logits, targets) == 8 * (N * V + 4 * N)


def test_what_is_predicted_where_the_target_is_ignored_does_not_matter():
    d = Draw(0)
    logits, targets = d(9, 7), d.targets(7, 9)
    loss, backward = ops.cross_entropy(logits, targets)
    others = np.where((targets == -1)[:, None], 100 * d(9, 7), logits)
    other_loss, other_backward = ops.cross_entropy(others, targets)
    assert_same(other_loss, loss)
    assert_same(other_backward(np.array(1.0))[0], backward(np.array(1.0))[0])

    counted = targets != -1  # and it is as if those rows were not there
    kept_loss, kept_backward = ops.cross_entropy(logits[counted], targets[counted])
    assert_close(kept_loss, loss, 1e-15)
    assert_close(backward(np.array(1.0))[0][counted], kept_backward(np.array(1.0))[0], 1e-15)


def test_no_target_at_all_is_a_loss_of_0():
    loss, backward = ops.cross_entropy(Draw(0)(3, 4), np.full(3, -1))
    assert loss == 0
    np.testing.assert_array_equal(backward(np.array(1.0))[0], np.zeros((3, 4)))


def test_another_ignore_index():
    logits, targets = Draw(0)(3, 4), np.array([2, -100, 0])
    loss, _ = functools.partial(ops.cross_entropy, ignore_index=-100)(logits, targets)
    assert_close(loss, ops.cross_entropy(logits, np.array([2, -1, 0]))[0], 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand_stay_finite(dtype):
    loss, backward = ops.cross_entropy(np.array([[1e4, 0], [1e4, 0]], dtype), np.array([0, 1]))
    assert loss == 5000
    np.testing.assert_array_equal(backward(np.array(1, dtype))[0], [[0, 0], [0.5, -0.5]])


def test_a_model_that_knows_nothing_is_surprised_by_log_v():
    assert ops.cross_entropy(np.zeros((5, 65)), Draw(0).ids(65, 5))[0] == pytest.approx(
        math.log(65)
    )
