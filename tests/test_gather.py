"""Gradients of large leaves, to which threads add in turn."""

import importlib

import numpy as np
import pytest
from small_gpt import assert_same_gradients, gradients, small_batch, small_gpt
from tape_checks import added, gathered, in_turn, table

from tinygpt import accumulate_gradients, backend, gather, parallel

head = importlib.import_module("tinygpt.ops.linear_cross_entropy")


@pytest.mark.parametrize("check", [added, gathered, in_turn, table])
def test_checks(check):
    check(None)


@pytest.fixture
def all_large(monkeypatch):
    """Three threads, and every leaf is large; the table of 11 rows comes in parts of 4."""
    monkeypatch.setattr(gather, "LARGE", 1)
    monkeypatch.setattr(head, "PART", 4)
    monkeypatch.setattr(parallel, "threads", lambda: 3)
    monkeypatch.setattr(backend, "threads", lambda: 3)
    backend._pool.cache_clear()
    yield
    backend._pool.cache_clear()


@pytest.mark.parametrize("options", [{}, {"tie_weights": False}, {"remat": True}])
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 5])
def test_large_leaves_get_the_same_gradients(all_large, micro_batches, options):
    model = small_gpt(**options)
    ids, targets = small_batch(shape=(6, 5), ignored=True)
    model.loss(ids, targets).backward()
    expected = {name: 3 * dx for name, dx in gradients(model).items()}
    for _ in range(2):
        accumulate_gradients(model.loss, ids, targets, micro_batches=micro_batches)
    assert_same_gradients(gradients(model), expected, 1e-12)


def test_the_same_bits_each_time(all_large):
    model = small_gpt(dtype="float32")
    ids, targets = small_batch(shape=(6, 5))
    found = []
    for _ in range(5):
        model.zero_grad()
        accumulate_gradients(model.loss, ids, targets, micro_batches=6)
        found.append(gradients(model))
    for name, dx in found[0].items():
        for again in found[1:]:
            np.testing.assert_array_equal(again[name], dx)


def test_pieces_that_run_different_ops(all_large):
    """Nobody waits for ever, and nothing is lost, where pieces use leaves in another order."""
    model = small_gpt()
    a, b, c = model.parameters()[:3]

    def loss(ids, targets, rng):
        order = [(a, b, a, c), (b, a, a), (c, c)][rng.row // 2]
        return sum((leaf * (i + 1.0)).sum() for i, leaf in enumerate(order))

    ids = np.zeros((6, 2), int)
    accumulate_gradients(loss, ids, ids, rng=0, micro_batches=3)
    for leaf, expected in ((a, 4 + 5), (b, 2 + 1), (c, 4 + 3)):
        np.testing.assert_allclose(leaf.grad, expected / 3)


def test_one_thread_fails_and_the_others_go_on(all_large):
    model = small_gpt()
    ids, targets = small_batch(shape=(6, 5))
    for row in range(6):
        wrong = ids.copy()
        wrong[row, 2] = 11
        with pytest.raises(ValueError, match="ids holds 11"):
            accumulate_gradients(model.loss, wrong, targets, micro_batches=6)
