"""Generation: which token comes next, with and without a cache."""

import numpy as np
import pytest
from small_gpt import SIZES, small_gpt

from tinygpt.generate import generate, sample

BLOCK_SIZE = SIZES["block_size"]  # 7


def prompt(B=1, T=3):
    return np.random.default_rng(0).integers(0, SIZES["vocab_size"], (B, T))


# ---- from a model -------------------------------------------------------------------------------


def test_greedy_is_the_argmax():
    model = small_gpt()
    ids = prompt(B=2)
    found = model.generate(ids, 4, temperature=0)
    for _ in range(4):
        ids = np.concatenate([ids, model(ids).data[:, -1].argmax(axis=-1)[:, None]], axis=1)
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("n_kv_head", [None, 1])
@pytest.mark.parametrize("position", ["learned", "rope", "sinusoidal", "none"])
def test_the_cache_changes_nothing(position, n_kv_head, temperature):
    """Token for token, across block_size several times over."""
    model = small_gpt(position=position, n_kv_head=n_kv_head, qk_norm=True)
    options = {"temperature": temperature, "rng": 5}
    with_cache = model.generate(prompt(B=3), 30, **options)
    without = model.generate(prompt(B=3), 30, use_cache=False, **options)
    assert with_cache.shape == (3, 33)
    np.testing.assert_array_equal(with_cache, without)
    assert len(np.unique(with_cache[:, 3:])) > 1


def test_with_a_cache_only_new_tokens_are_computed():
    model = small_gpt()
    seen = []

    def spy(ids, cache):
        seen.append((ids.shape[1], cache is not None))
        return model._next_logits(ids, cache)

    generate(spy, prompt(T=5), 7, BLOCK_SIZE)
    fresh, grown = (3, False), (1, True)  # at 8 tokens the newest 3 are kept
    assert seen == [(5, False), grown, grown, fresh, grown, grown, grown]


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_long_prompt_is_seen_from_its_end(use_cache):
    model = small_gpt()
    ids = prompt(T=20)
    found = model.generate(ids, 1, temperature=0, use_cache=use_cache)
    np.testing.assert_array_equal(found[:, :20], ids)
    assert found[0, 20] == model(ids[:, -BLOCK_SIZE:]).data[0, -1].argmax()


@pytest.mark.parametrize("position", ["learned", "rope"])
def test_a_block_of_one(position):
    """Every token depends on the one before alone."""
    model = small_gpt(block_size=1, position=position)
    found = model.generate(prompt(T=2), 5, temperature=0)
    for before, token in zip(found[0, 1:-1], found[0, 2:], strict=True):
        assert token == model([[before]]).data[0, -1].argmax()


def test_nothing_new():
    np.testing.assert_array_equal(small_gpt().generate(prompt(), 0), prompt())


def test_the_same_seed_gives_the_same_tokens():
    model = small_gpt()
    first = model.generate(prompt(), 20, rng=3)
    np.testing.assert_array_equal(model.generate(prompt(), 20, rng=3), first)
    np.testing.assert_array_equal(model.generate(prompt(), 20, rng=np.random.default_rng(3)), first)
    assert (model.generate(prompt(), 20, rng=4) != first).any()
    assert first.dtype == np.int64
    np.testing.assert_array_equal(model.generate(prompt().tolist(), 20, rng=3), first)


def test_generation_leaves_the_model_as_it_was():
    model = small_gpt(dropout=0.5)
    before = model(prompt()).data
    model.generate(prompt(), 9)
    np.testing.assert_array_equal(model(prompt()).data, before)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], 3), r"ids must have shape \(batch, time\), not \(2,\); for one, use ids\[None\]"),
        (([[]], 3), "ids"),
        (([[11]], 3), "ids holds 11"),
        (([[1]], -1), "max_new_tokens must be at least 0, not -1"),
        (([[1]], 3, -0.5), "temperature must be at least 0, not -0.5"),
        (([[1]], 3, float("nan")), "temperature must be at least 0, not nan"),
        (([[1]], 3, 1.0, 0), "top_k must be at least 1, not 0"),
        (([[1]], 3, 1.0, None, 0.0), "top_p must be above 0 and at most 1, not 0.0"),
        (([[1]], 3, 1.0, None, 1.1), "top_p must be above 0 and at most 1, not 1.1"),
    ],
)
def test_what_cannot_be_generated(arguments, message):
    with pytest.raises(ValueError, match=message):
        small_gpt().generate(*arguments)


# ---- from a function ----------------------------------------------------------------------------


def counting(ids, cache):
    """After token n comes n + 1, nearly always."""
    logits = np.zeros((len(ids), 10))
    logits[np.arange(len(ids)), (ids[:, -1] + 1) % 10] = 50
    return logits, cache


def test_stop():
    """A row is done when it has the token, and then filled up with it."""
    ids = np.array([[5], [2], [7]])
    found = generate(counting, ids, 20, 100, stop=8)
    np.testing.assert_array_equal(
        found,
        [[5, 6, 7, 8, 8, 8, 8], [2, 3, 4, 5, 6, 7, 8], [7, 8, 8, 8, 8, 8, 8]],
    )  # ended when the last row was done


def test_a_stop_in_the_prompt_does_not_stop():
    np.testing.assert_array_equal(generate(counting, np.array([[8]]), 2, 100, stop=8), [[8, 9, 0]])


def test_max_new_tokens():
    np.testing.assert_array_equal(generate(counting, np.array([[1]]), 3, 2), [[1, 2, 3, 4]])


P = np.array([0.4, 0.1, 0.3, 0.15, 0.05])


def shares(n=20_000, **options):
    """How often each token is drawn from P."""
    tokens = sample(np.log(P)[None].repeat(n, axis=0), rng=0, **options)
    return np.bincount(tokens, minlength=len(P)) / n


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ({}, P),
        ({"temperature": 0.5}, P**2),
        ({"temperature": 2.0}, P**0.5),
        ({"top_k": 1}, [1, 0, 0, 0, 0]),
        ({"top_k": 2}, [0.4, 0, 0.3, 0, 0]),
        ({"top_k": 99}, P),
        ({"top_p": 0.3}, [1, 0, 0, 0, 0]),
        ({"top_p": 0.45}, [0.4, 0, 0.3, 0, 0]),
        ({"top_p": 0.8}, [0.4, 0, 0.3, 0.15, 0]),
        ({"top_p": 1.0}, P),
        ({"top_k": 3, "top_p": 0.8}, [0.4, 0, 0.3, 0, 0]),  # 0.8 of what top_k left: 0.68
        ({"top_p": 0.55, "temperature": 0.5}, [1, 0, 0, 0, 0]),  # its share is 0.56 of the squares
        ({"temperature": 0.0}, [1, 0, 0, 0, 0]),
        ({"temperature": 1e-4}, [1, 0, 0, 0, 0]),
    ],
)
def test_sampling(options, weights):
    weights = np.asarray(weights, float)
    weights /= weights.sum()
    found = shares(**options)
    assert not found[weights == 0].any()
    assert abs(found - weights).max() < 0.015  # four standard deviations


def test_rows_are_drawn_by_themselves():
    logits = np.log(np.array([[0.5, 0.5, 1e-30], [1e-30, 0.5, 0.5]])).repeat(1000, axis=0)
    tokens = sample(logits, rng=0)
    assert set(tokens[:1000]) == {0, 1}
    assert set(tokens[1000:]) == {1, 2}
    assert 0.4 < (tokens[:1000] == 1).mean() < 0.6


def test_impossible_tokens_are_never_drawn():
    logits = np.array([[-np.inf, 0.0, -np.inf, 0.0]]).repeat(1000, axis=0)
    assert set(sample(logits, rng=0)) == {1, 3}


def test_logits_that_are_not_numbers_are_an_error():
    with pytest.raises(ValueError, match="nan"):
        sample(np.array([[0.0, np.nan]]))
