"""Keys: which random numbers are meant."""

import itertools

import numpy as np
import pytest

from tinygpt.ops.dropout import keep_mask
from tinygpt.rng import Key, as_key


def test_what_a_user_may_give():
    assert as_key(None) is None
    assert as_key(5) == as_key(np.int64(5)) == Key((5,))
    assert as_key((5, np.uint8(2))) == Key((5, 2))
    assert as_key(Key((1, 2), row=3)) == Key((1, 2), row=3)


@pytest.mark.parametrize("rng", [-1, 1.5, "seed", (1, -2), (1, 2.0), [1, 2], np.array([1])])
def test_what_a_user_may_not_give(rng):
    with pytest.raises(ValueError, match="rng must be an int from 0 up, a tuple of such ints"):
        as_key(rng)


def test_a_generator_gives_one_seed():
    rng, same = np.random.default_rng(7), np.random.default_rng(7)
    first, second = as_key(rng), as_key(rng)
    assert first == Key((int(same.integers(2**63)),))
    assert first != second
    same.integers(2**63)
    assert rng.random() == same.random()  # nothing else was drawn


def test_fold_and_part():
    key = Key((5,))
    assert key.fold(2, 3).fold(4) == Key((5, 2, 3, 4))
    assert key.part(6).fold(2) == key.fold(2).part(6) == Key((5, 2), row=6)
    assert key.part(6).part(2).row == 8
    assert key == Key((5,))


WORDS = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 1), (1, 2, 3, 4), (1, 2, 3, 4, 0), (2**63,)]


def test_different_keys_mean_different_numbers():
    masks = {words: keep_mask((20, 50), 0.5, words) for words in WORDS}
    alike = {
        (one, other): (masks[one] == masks[other]).mean()
        for one, other in itertools.combinations(WORDS, 2)
    }
    assert {pair: share for pair, share in alike.items() if not 0.4 < share < 0.6} == {}
