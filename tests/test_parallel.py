"""Micro-batches: however a batch is cut, its loss and gradient are those of the whole."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from small_gpt import assert_same_gradients, gradients, small_batch, small_gpt

from tinygpt import Tensor, accumulate_gradients, evaluate, parallel
from tinygpt import functional as F

SHAPE = (6, 5)


def batch():
    """Targets of -1 are spread unevenly: rows with all, some and no targets, and a whole third
    of the batch without any."""
    ids, targets = small_batch(shape=SHAPE)
    targets[2:4] = -1
    targets[0, 1:] = -1
    targets[4, ::2] = -1
    return ids, targets


def whole(model, ids, targets, rng=None):
    model.zero_grad()
    loss = model.loss(ids, targets, rng=rng)
    loss.backward()
    return loss.item(), gradients(model)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("micro_batches", [1, 2, 3, 4, 5, 6, None])
def test_micro_batches_equal_one_batch(micro_batches, dropout):
    model = small_gpt(dropout=dropout)
    ids, targets = batch()
    rng = (1, 2) if dropout else None
    expected_loss, expected = whole(model, ids, targets, rng)
    model.zero_grad()
    loss = accumulate_gradients(model.loss, ids, targets, rng, micro_batches)
    assert isinstance(loss, np.ndarray)
    assert loss.shape == ()
    assert loss.dtype == np.float64
    assert abs(loss - expected_loss) < 1e-12 * expected_loss
    assert_same_gradients(gradients(model), expected, 1e-12)

    found = evaluate(model.loss, ids, targets, rng, micro_batches)
    assert isinstance(found, np.ndarray)
    assert found.shape == ()
    assert abs(found - expected_loss) < 1e-12 * expected_loss


def test_a_generator_gives_all_pieces_one_seed():
    model = small_gpt(dropout=0.3)
    ids, targets = batch()
    losses = [
        evaluate(model.loss, ids, targets, np.random.default_rng(5), n).item() for n in (1, 3, 6)
    ]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-12)


def test_gradients_add_to_those_before():
    model = small_gpt()
    ids, targets = batch()
    _, expected = whole(model, ids, targets)
    for _ in range(2):
        accumulate_gradients(model.loss, ids, targets, micro_batches=3)
    assert_same_gradients(gradients(model), {n: 3 * dx for n, dx in expected.items()}, 1e-12)


@pytest.mark.parametrize("micro_batches", [2, 5, None])
def test_two_calls_give_the_same_bits(micro_batches):
    model = small_gpt(dtype="float32", dropout=0.1)
    ids, targets = batch()
    results = []
    for _ in range(2):
        model.zero_grad()
        loss = accumulate_gradients(model.loss, ids, targets, 7, micro_batches)
        assert loss.dtype == np.float32
        results.append({"loss": loss, **gradients(model)})
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name])


def test_evaluate_remembers_nothing():
    model = small_gpt(dtype="float32")

    def loss(ids, targets):
        mean = model.loss(ids, targets)
        assert not mean.requires_grad
        return mean

    assert evaluate(loss, *batch(), micro_batches=2).dtype == np.float32
    assert all(p.grad is None for p in model.parameters())


def test_frozen_parameters_stay_without_gradient():
    model = small_gpt()
    model.wpe.weight.requires_grad = False
    accumulate_gradients(model.loss, *batch(), micro_batches=2)
    assert [n for n, p in model.named_parameters() if p.grad is None] == ["wpe.weight"]


def test_a_loss_that_knows_no_rng():
    w = Tensor(np.random.default_rng(0).standard_normal((11, 11)), requires_grad=True)
    seen = []

    def bigram_loss(ids, targets):
        seen.append(ids.shape)
        return F.cross_entropy(F.embedding(ids, w), targets)

    ids, targets = batch()
    loss = accumulate_gradients(bigram_loss, ids, targets, micro_batches=3)
    assert sorted(seen) == [(2, 5)] * 2  # the third piece has no targets
    found = w.grad.copy()
    w.grad = None
    expected = bigram_loss(ids, targets)
    expected.backward()
    np.testing.assert_allclose(found, w.grad, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(loss, expected.data, rtol=1e-12)


def test_each_piece_is_told_its_place():
    rows = {}

    def loss(ids, targets, rng):
        rows[rng.row] = len(ids)
        assert rng.words == (3, 4)
        return Tensor(np.ones(()), requires_grad=True) * 1.0

    ids = np.zeros((7, 2), int)
    accumulate_gradients(loss, ids, ids, rng=(3, 4), micro_batches=3)
    assert rows == {0: 2, 2: 2, 4: 3}


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [accumulate_gradients, evaluate])
def test_bad_batches(function):
    model = small_gpt()
    ids, targets = batch()
    with pytest.raises(ValueError, match="every target is -1"):
        function(model.loss, ids, np.full_like(ids, -1))
    with pytest.raises(ValueError, match=r"\(batch, time\), not \(6, 5\), \(6, 4\)"):
        function(model.loss, ids, targets[:, 1:])
    for micro_batches in (0, -1, 7):
        with pytest.raises(ValueError, match="between 1 and the batch size 6, not"):
            function(model.loss, ids, targets, micro_batches=micro_batches)
    with pytest.raises(ValueError, match="rng must be an int"):
        function(model.loss, ids, targets, rng=-1)


@pytest.mark.parametrize("micro_batches", [1, 2, 6])
def test_exceptions_come_out_of_the_threads(micro_batches):
    model = small_gpt()
    ids, targets = batch()
    ids[5, 2] = 11
    with pytest.raises(ValueError, match="ids holds 11, which is not in 0 .. 10"):
        accumulate_gradients(model.loss, ids, targets, micro_batches=micro_batches)
    assert all(p.grad is None for p in model.parameters())  # no half of a gradient
    ids[5, 2] = 0
    accumulate_gradients(model.loss, ids, targets, micro_batches=micro_batches)


# ---- threads ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("threads", "B", "T", "pieces"),
    [
        (2, 12, 64, 2),  # 768 tokens
        (2, 64, 256, 32),  # 16384 tokens in pieces of 512
        (2, 12, 128, 4),  # a round and a half is two
        (2, 1, 4096, 1),  # one row
        (3, 2, 256, 2),  # fewer rows than threads
        (2, 2, 64, 1),  # too few tokens for two
        (16, 12, 64, 6),
        (2, 1, 8, 1),
        (1, 64, 64, 8),
    ],
)
def test_how_a_batch_is_cut(threads, B, T, pieces, monkeypatch):
    monkeypatch.setattr(parallel, "threads", lambda: threads)
    assert parallel.micro_batch_count(B, T) == pieces


def test_memory_is_kept_and_products_of_pieces_stay_on_their_core(monkeypatch):
    called = []
    monkeypatch.setattr(parallel, "threads", lambda: 2)
    monkeypatch.setattr(parallel, "keep_freed_memory", lambda: called.append("memory"))
    one_thread = lambda: called.append("blas") or contextlib.nullcontext()  # noqa: E731
    monkeypatch.setattr(parallel, "one_blas_thread", one_thread)
    model = small_gpt()
    accumulate_gradients(model.loss, *batch(), micro_batches=2)
    assert called == ["memory", "blas"]
    accumulate_gradients(model.loss, *batch(), micro_batches=1)  # alone, it may use every core
    assert called == ["memory", "blas", "memory"]


TRAIN = """
import numpy as np
from tinygpt import GPT, GPTConfig, AdamW, accumulate_gradients, evaluate
model = GPT(GPTConfig(vocab_size=65, block_size=8, n_layer=1, n_head=2, n_embd=108, dropout=0.1),
            dtype="float64")
assert sum(p.size for p in model.parameters()) > 140_000  # more than a block of the optimizer
optimizer = AdamW(model.parameters(), lr=1e-2)
rng = np.random.default_rng(0)
for step in range(4):
    ids, targets = rng.integers(0, 65, (2, 7, 8))
    print(float(accumulate_gradients(model.loss, ids, targets, rng=(0, step), micro_batches=5)))
    print(float(optimizer.clip_grad_norm(0.5)))
    optimizer.step()
    optimizer.zero_grad()
print(float(evaluate(model.loss, ids, targets)))
"""


def test_the_number_of_threads_changes_nothing_but_rounding():
    losses = []
    for threads in ("1", "3"):
        result = subprocess.run(
            [sys.executable, "-c", TRAIN],
            capture_output=True,
            text=True,
            env={**os.environ, "TINYGPT_THREADS": threads},
        )
        assert result.returncode == 0, result.stderr
        losses.append([float(line) for line in result.stdout.split()])
    assert len(losses[0]) == 9
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-12)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4)])
def test_a_batch_of_another_shape_is_an_error(shape):
    ids = np.zeros(shape, int)
    with pytest.raises(ValueError, match=r"\(batch, time\)"):
        accumulate_gradients(lambda ids, targets: None, ids, ids)
