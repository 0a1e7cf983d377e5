"""Sampling: from logits to probabilities to a token."""

import numpy as np
import pytest

from tinygpt.sampling import Sampling

P = np.array([0.4, 0.1, 0.3, 0.15, 0.05])


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
        ({"min_p": 0.3}, [0.4, 0, 0.3, 0.15, 0]),  # at least 0.12
        ({"min_p": 1.0}, [1, 0, 0, 0, 0]),
        ({"min_p": 0.3, "temperature": 2.0}, [0.4**0.5, 0.1**0.5, 0.3**0.5, 0.15**0.5, 0.05**0.5]),
        ({"min_p": 0.2, "top_p": 0.8}, [0.4, 0, 0.3, 0.15, 0]),
        ({"temperature": 0.0}, [1, 0, 0, 0, 0]),
        ({"temperature": 1e-4}, [1, 0, 0, 0, 0]),
    ],
)
def test_probabilities_and_draws(options, weights):
    sampling, logits = Sampling(**options), np.log(P)
    weights = np.asarray(weights, float)
    p = sampling.probabilities(logits)
    np.testing.assert_allclose(p / p.sum(), weights / weights.sum(), rtol=1e-12)
    n = 400
    drawn = [sampling.draw(logits, (), (i + 0.5) / n) for i in range(n)]
    found = np.bincount(drawn, minlength=len(P)) / n
    assert abs(found - weights / weights.sum()).max() <= 1 / n
    assert not found[weights == 0].any()


def test_repetition_penalty_by_hand():
    """Once for each token that was there, however often; up or down by its sign."""
    sampling = Sampling(repetition_penalty=2.0)
    p = sampling.probabilities(np.array([3.0, -1.0, 2.0, -1.0]), [0, 1, 1])
    expected = np.exp([1.5, -2.0, 2.0, -1.0])
    np.testing.assert_allclose(p / p.sum(), expected / expected.sum(), rtol=1e-12)
    assert Sampling(0, repetition_penalty=2.0).draw(np.array([3.0, 2.0]), [0], 0.9) == 1
    assert Sampling(0).draw(np.array([3.0, 2.0]), [0], 0.9) == 0


def test_of_equals_the_first_stay():
    for options in ({"top_k": 3}, {"top_p": 0.55}):
        p = Sampling(**options).probabilities(np.array([0.0, -1.0, 0.0, 0.0, 0.0]))
        np.testing.assert_array_equal(p > 0, [True, False, True, True, False])
    p = Sampling(top_k=2).probabilities(np.array([0.0, 0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(p > 0, [True, False, True, False])


def test_impossible_tokens_are_never_drawn():
    logits = np.array([-np.inf, 0.0, -np.inf, 0.0, -np.inf])
    for u in (0.0, 0.3, 0.5, 0.8, np.nextafter(1, 0)):
        assert Sampling().draw(logits, (), u) == (1 if u < 0.5 else 3)


def test_rounding_at_the_very_end_stays_inside():
    """Whatever the shares add up to."""
    for n in range(1, 60):
        logits = np.append(np.log(np.arange(1, n + 1)), -np.inf)
        assert Sampling(0.7).draw(logits, (), np.nextafter(1, 0)) == n - 1


@pytest.mark.parametrize("logits", [[0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]])
def test_logits_that_leave_no_choice_are_an_error(logits):
    for temperature in (0.0, 1.0):
        with pytest.raises(ValueError, match="largest logit is (nan|inf|-inf), so there is noth"):
            Sampling(temperature).draw(np.array(logits), (), 0.5)


def test_logits_are_left_alone():
    logits = np.array([1.0, 2.0, 3.0])
    Sampling(0.5, 2, 0.9, 0.1, 1.5).draw(logits, [0, 1], 0.5)
    np.testing.assert_array_equal(logits, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.5}, "temperature must be at least 0, not -0.5"),
        ({"temperature": float("nan")}, "temperature must be at least 0, not nan"),
        ({"temperature": None}, "temperature must be a number, not None"),
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"top_k": 1.5}, "top_k must be a whole number, not 1.5"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": 1.1}, "top_p must be above 0 and at most 1, not 1.1"),
        ({"min_p": -0.1}, "min_p must be above 0 and at most 1, not -0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0, not 0"),
        ({"repetition_penalty": "1"}, "repetition_penalty must be a number, not '1'"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Sampling(**options)


# ---- beside transformers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.6},
        {"min_p": 0.1},
        {"repetition_penalty": 1.7},
        {"temperature": 1.4, "top_k": 12, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 0.8},
    ],
    ids=str,
)
def test_the_distribution_of_transformers(options):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers import generation

    rng = np.random.default_rng(0)
    logits, before = 3 * rng.standard_normal((4, 30)), rng.integers(0, 30, (4, 6))
    of = {
        "repetition_penalty": generation.RepetitionPenaltyLogitsProcessor,
        "temperature": generation.TemperatureLogitsWarper,
        "top_k": generation.TopKLogitsWarper,
        "top_p": generation.TopPLogitsWarper,
        "min_p": generation.MinPLogitsWarper,
    }  # in the order in which transformers' generate applies them
    scores = torch.from_numpy(logits)
    for name, processor in of.items():
        if name in options:
            scores = processor(options[name])(torch.from_numpy(before), scores)
    for z, ids, expected in zip(logits, before, scores.softmax(-1).numpy(), strict=True):
        p = Sampling(**options).probabilities(z, ids)
        np.testing.assert_allclose(p / p.sum(), expected, rtol=1e-12)
