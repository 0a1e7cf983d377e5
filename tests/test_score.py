"""Scoring: every token once, with as much before it as the protocol says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_gpt import SIZES, small_gpt

from tinygpt import GPT, GPTConfig, data, tokenizers
from tinygpt.score import score

V, BLOCK_SIZE = SIZES["vocab_size"], SIZES["block_size"]  # 11, 7


def some_ids(n):
    return np.random.default_rng(n).integers(0, V, n)


def log_softmax(z):
    return z - z.max() - math.log(np.exp(z - z.max()).sum())


def by_hand(model, ids, stride):
    """Window by window, token by token: the first window that reaches a token scores it."""
    found = {}
    for start in range(0, len(ids), stride):
        for t in range(start + 1, min(start + BLOCK_SIZE, len(ids) - 1) + 1):
            if t not in found:
                z = model(ids[None, start:t]).data[0, -1]
                found[t] = (log_softmax(z)[ids[t]], t - start)
    assert sorted(found) == list(range(1, len(ids)))
    for t, (_, context) in found.items():
        assert min(t, BLOCK_SIZE - stride) <= context <= BLOCK_SIZE
    return np.array([found[t][0] for t in sorted(found)])


@pytest.mark.parametrize("stride", [1, 3, 5, 7])
@pytest.mark.parametrize("n", [2, 7, 8, 9, 15, 22, 23])
def test_window_by_window(n, stride):
    model, ids = small_gpt(), some_ids(n)
    np.testing.assert_allclose(
        model.score(ids, stride=stride), by_hand(model, ids, stride), rtol=1e-12
    )


def test_the_stride_is_half_a_block_unless_given():
    model, ids = small_gpt(), some_ids(40)
    np.testing.assert_array_equal(model.score(ids), model.score(ids, stride=3))
    assert (model.score(ids) != model.score(ids, stride=4)).any()
    assert len(small_gpt(block_size=1).score(ids)) == 39


@given(st.integers(2, 60), st.integers(1, 9), st.data())
def test_every_token_once(n, block_size, draw):
    """A model that only looks at the last token gives the same at every stride: what it is asked
    for is counted, and how far it can see."""
    stride = draw.draw(st.integers(1, block_size))
    rng = np.random.default_rng(0)
    table = rng.standard_normal((5, 5))
    ids = rng.integers(0, 5, n)

    def logits(ids):
        assert ids.shape[1] <= block_size
        return table[ids]

    expected = [log_softmax(table[a])[b] for a, b in zip(ids[:-1], ids[1:], strict=True)]
    np.testing.assert_allclose(score(logits, ids, block_size, stride), expected, rtol=1e-12)


def test_a_model_that_knows_the_chain_scores_its_entropy():
    """Tokens drawn from known probabilities: the mean score is minus the entropy of the chain."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(4), size=4)
    ids = [0]
    for u in rng.random(20_000):
        ids.append(int(np.searchsorted(np.cumsum(p[ids[-1]]), u)))
    scores = score(lambda ids: np.log(p)[ids], np.array(ids), 64)
    share = np.bincount(ids[:-1], minlength=4) / (len(ids) - 1)
    entropy = -(share[:, None] * p * np.log(p)).sum()
    assert scores.mean() == pytest.approx(-entropy, abs=0.015)  # three standard errors


def test_a_uniform_model_scores_log_v():
    model = small_gpt()
    model.wte.weight.data[:] = 0
    np.testing.assert_allclose(model.score(some_ids(30)), -math.log(V), rtol=1e-12)


def test_large_logits():
    """e^1000 is no number, and log softmax does not need it, nor one scale for all rows."""
    found = score(
        lambda ids: np.array([1000.0, 999.0]) + 1000 * ids[..., None], np.array([0, 1, 0]), 4
    )
    np.testing.assert_allclose(found, -np.log1p(np.exp([1.0, -1.0])), rtol=1e-12)


def test_text_and_ids():
    text = data.play(characters=300)
    tokenizer = tokenizers.Char.train(text)
    model = GPT(GPTConfig(tokenizer.vocab_size, 16, n_layer=1, n_head=2, n_embd=8))
    found = model.score(text, tokenizer)
    assert found.shape == (299,)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, model.score(tokenizer.encode(text)))
    with pytest.raises(TypeError, match="pass the tokenizer too"):
        model.score(text)


def test_scoring_leaves_no_graph():
    model = small_gpt()
    model.score(some_ids(20))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("ids", "stride", "message"),
    [
        ([1], None, r"two or more in a row, not of shape \(1,\)"),
        ([[1, 2]], None, r"two or more in a row, not of shape \(1, 2\)"),
        ([], None, "ids is empty"),
        ([1, 11], None, "ids holds 11"),
        ([1, 2], 0, "stride must be between 1 and block_size=7, not 0"),
        ([1, 2], 8, "stride must be between 1 and block_size=7, not 8"),
        ([1, 2], 2.5, "stride must be a whole number, not 2.5"),
    ],
)
def test_what_cannot_be_scored(ids, stride, message):
    with pytest.raises((ValueError, TypeError), match=message):
        small_gpt().score(ids, stride=stride)
