"""Generation: which token comes next, with and without a cache."""

import itertools

import numpy as np
import pytest
from small_gpt import SIZES, small_gpt

from tinygpt.generate import generate, stream
from tinygpt.gpt.cache import KVCache
from tinygpt.sampling import Sampling

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
    with_cache = model.generate(prompt(B=3), 22, **options)
    without = model.generate(prompt(B=3), 22, use_cache=False, **options)
    assert with_cache.shape == (3, 25)
    np.testing.assert_array_equal(with_cache, without)
    assert len(np.unique(with_cache[:, 3:])) > 1


def test_with_a_cache_only_new_tokens_are_computed():
    model = small_gpt()
    seen = []

    def spy(ids, cache):
        seen.append((len(ids), ids.shape[1], *cache.lengths))
        return model._next_logits(ids, cache)

    def cache(B):
        return KVCache(model.config, B, model.wte.weight.data)

    generate(spy, prompt(T=5), 7, BLOCK_SIZE, cache=cache(1))
    assert [T for _, T, _ in seen] == [5, 1, 1, 3, 1, 1, 1]  # at 8 tokens the newest 3 are kept
    assert [held for *_, held in seen] == [0, 5, 6, 0, 3, 4, 5]

    seen.clear()  # each row by itself where they differ, together where they do not
    generate(spy, [prompt(T=5)[0], prompt(T=4)[0], prompt(T=4)[0]], 4, BLOCK_SIZE, cache=cache(3))
    assert seen == [
        (1, 5, 0), (2, 4, 0, 0),
        (3, 1, 5, 4, 4),
        (3, 1, 6, 5, 5),
        (1, 3, 0), (2, 1, 6, 6),
    ]  # fmt: skip


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
        (
            ([1, 2], 3),
            r"not \(2,\); for one prompt, use \[ids\]",
        ),
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


# ---- prompts of different lengths ---------------------------------------------------------------

OPTIONS = {
    "gpt2": {},
    "llama": {"position": "rope", "norm": "rms_norm", "activation": "swiglu", "n_kv_head": 1},
    "sinusoidal": {"position": "sinusoidal", "qk_norm": True},
    "none": {"position": "none", "tie_weights": False},
}
UNEQUAL = [[3], [1, 2, 3, 4, 5, 6, 7, 8, 9], [5, 5], [0, 1, 2, 3, 4, 5], [6, 7]]
CHOICES = {
    "greedy": {"temperature": 0},
    "sampled": {"temperature": 1.5, "top_k": 9, "min_p": 0.01},
    "penalised": {"temperature": 0, "repetition_penalty": 1.3},
    "stopped": {"temperature": 2.0, "stop": [4, 9]},
}


@pytest.mark.parametrize(
    ("choice", "use_cache"), [*((choice, True) for choice in CHOICES), ("sampled", False)]
)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_prompt_among_others_gets_what_it_gets_alone(options, choice, use_cache):
    """Token for token, past block_size for every row at another time."""
    model, choice = small_gpt(**options, n_layer=1), CHOICES[choice]
    rng = np.random.default_rng(7)
    together = model.generate(UNEQUAL, 12, rng=7, use_cache=use_cache, **choice)
    assert isinstance(together, list)
    for prompt, found in zip(UNEQUAL, together, strict=True):
        alone = model.generate([prompt], 12, rng=rng, use_cache=not use_cache, **choice)
        np.testing.assert_array_equal(found, alone[0])
        assert found[: len(prompt)].tolist() == prompt
        if "stop" not in choice:
            assert len(found) == len(prompt) + 12
    if "stop" in choice:
        new = [len(row) - len(prompt) for prompt, row in zip(UNEQUAL, together, strict=True)]
        assert len(set(new)) > 1


def test_rows_of_one_prompt_differ():
    found = small_gpt().generate([[1, 2]] * 4, 10, temperature=2.0)
    assert len({tuple(row) for row in found.tolist()}) == 4


def test_prompts_of_one_length_are_an_array():
    model = small_gpt()
    found = model.generate([[1, 2], [3, 4]], 3)
    assert found.shape == (2, 5)
    np.testing.assert_array_equal(model.generate((np.array([1, 2]), [3, 4]), 3), found)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, 2], []], r"ids\[1\] is empty"),
        ([[1, 2], [11]], r"ids\[1\] holds 11"),
        ([[1, 2], [[3]]], r"ids\[1\] must be one or more ids in a row, not \(1, 1\)"),
        ([[1, 2], 3], r"ids\[1\] must be one or more ids in a row, not \(\)"),
        ([[1, 2], ["a"]], r"ids\[1\] must be integers"),
    ],
)
def test_prompts_that_cannot_be_gone_on_from(ids, message):
    with pytest.raises(ValueError, match=message):
        small_gpt().generate(ids, 1)


def test_every_option_reaches_sampling(monkeypatch):
    seen = []
    monkeypatch.setattr("tinygpt.gpt.model.generate", lambda *told: seen.append(told[4]))
    options = {"temperature": 0.5, "top_k": 3, "top_p": 0.4, "min_p": 0.2}
    small_gpt().generate([[1]], 2, **options, repetition_penalty=1.5)
    assert seen == [Sampling(**options, repetition_penalty=1.5)]


# ---- a stream -----------------------------------------------------------------------------------


def test_generate_is_made_of_stream():
    model = small_gpt()
    steps = list(model.stream([[1, 2], [3, 4]], 9, rng=3, top_k=5))
    assert [step.shape for step in steps] == [(2,)] * 9
    found = model.generate([[1, 2], [3, 4]], 9, rng=3, top_k=5)
    np.testing.assert_array_equal(np.stack(steps, axis=1), found[:, 2:])


def test_a_stream_computes_a_token_when_it_is_asked_for():
    asked = []

    def next_logits(ids, cache):
        asked.append(len(ids[0]))
        return counting(ids, cache)

    tokens = stream(next_logits, np.array([[1]]), 100, 100)
    assert asked == []
    assert [int(token[0]) for token in itertools.islice(tokens, 3)] == [2, 3, 4]
    assert asked == [1, 2, 3]


def test_a_stream_complains_before_its_first_token():
    for options in ({"top_k": 0}, {"stop": 11}, {"rng": "x"}):
        with pytest.raises(ValueError, match="must|holds"):
            small_gpt().stream([[1]], 3, **options)
    with pytest.raises(ValueError, match="max_new_tokens"):
        small_gpt().stream([[1]], -1)


# ---- from a function ----------------------------------------------------------------------------


def counting(ids, cache):
    """After token n comes n + 1, nearly always."""
    logits = np.zeros((len(ids), 10))
    logits[np.arange(len(ids)), (ids[:, -1] + 1) % 10] = 50
    return logits


def test_stop():
    """A row is done when it has the token, and then filled up with it."""
    ids = np.array([[5], [2], [7]])
    found = generate(counting, ids, 20, 100, stop=[8])
    np.testing.assert_array_equal(
        found,
        [[5, 6, 7, 8, 8, 8, 8], [2, 3, 4, 5, 6, 7, 8], [7, 8, 8, 8, 8, 8, 8]],
    )  # ended when the last row was done


def test_several_stops():
    """Each row is filled up with the one that it met, and a list of rows is not filled up."""
    ids = np.array([[5], [2]])
    found = generate(counting, ids, 20, 100, stop=[4, 8])
    np.testing.assert_array_equal(found, [[5, 6, 7, 8], [2, 3, 4, 4]])
    found = generate(counting, list(ids), 20, 100, stop=[4, 8])
    assert [row.tolist() for row in found] == [[5, 6, 7, 8], [2, 3, 4]]


def test_a_stop_in_the_prompt_does_not_stop():
    np.testing.assert_array_equal(
        generate(counting, np.array([[8]]), 2, 100, stop=[8]), [[8, 9, 0]]
    )


def test_the_penalty_is_for_all_of_the_text():
    """The prompt, what was written, and what is too long ago to be seen."""
    found = generate(
        lambda ids, cache: np.tile([5.0, 4, 3, 2, 1], (len(ids), 1)),
        np.array([[1]]), 4, block_size=2, sampling=Sampling(0, repetition_penalty=1e3),
    )  # fmt: skip
    np.testing.assert_array_equal(found, [[1, 0, 2, 3, 4]])


def test_max_new_tokens():
    np.testing.assert_array_equal(generate(counting, np.array([[1]]), 3, 2), [[1, 2, 3, 4]])
