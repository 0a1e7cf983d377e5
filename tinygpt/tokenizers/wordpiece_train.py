"""Learning WordPiece: merge the pair that is found together most, measured by its parts alone.

The score of a pair is f(ab) / (f(a) f(b)), with f how often a token or a pair occurs: by how much
the likelihood of the text rises, for each occurrence, when the two become one token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from .pairs import Pair, Pairs
from .words import progress_bar


def learn_tokens(
    words: Mapping[str, int],
    vocab_size: int,
    special_tokens: list[str],
    inside: str,
    min_frequency: int = 1,
    progress: bool = False,
) -> list[str]:
    """The tokens: special ones, single characters in order, then pairs in the order merged.

    words: how often each occurs. `inside` goes before a token that does not start a word. Pairs
    seen less than min_frequency times are not merged.
    """
    alphabet = sorted({letter for word in words for letter in in_letters(word, inside)})
    tokens = [*special_tokens, *alphabet]
    if vocab_size < len(tokens):
        raise ValueError(
            f"vocab_size={vocab_size} is too small: {len(special_tokens)} special tokens and "
            f"{len(alphabet)} characters make {len(tokens)}"
        )

    ids = {letter: i for i, letter in enumerate(tokens)}
    rows = [
        ([ids[letter] for letter in in_letters(word, inside)], count)
        for word, count in words.items()
    ]
    frequency = np.zeros(vocab_size, np.int64)
    for row, count in rows:
        np.add.at(frequency, row, count)
    scores = Scores(Pairs(rows, len(tokens)), frequency, min_frequency)

    with progress_bar(progress, "learning merges", vocab_size - len(tokens), " merges") as bar:
        while len(tokens) < vocab_size:
            pair = scores.best()
            if pair is None:
                raise ValueError(
                    f"vocab_size={vocab_size} is more than this text has pairs for: after "
                    f"{len(tokens)} tokens no pair is left that is seen {min_frequency} times; "
                    f"try vocab_size={len(tokens)}, or more text"
                )
            left, right = pair
            scores.merge(pair, len(tokens))
            tokens.append(tokens[left] + tokens[right][len(inside) :])
            bar.update()
    return tokens


def in_letters(word: str, inside: str) -> list[str]:
    """cat -> c ##a ##t"""
    return [word[0], *[inside + letter for letter in word[1:]]]


class Scores:
    """The score of every pair, in one array: a merge changes those of its tokens and no others.

    frequency: how often each token occurs. A pair has a slot, the same in all arrays, for ever.
    """

    def __init__(self, pairs: Pairs, frequency: np.ndarray, min_frequency: int):
        self.pairs = pairs
        self.frequency = frequency
        self.min_frequency = min_frequency
        self.slots: dict[Pair, int] = {}
        self.with_token: defaultdict[int, list[int]] = defaultdict(list)  # the slots of its pairs
        self.left, self.right, self.counts = np.zeros((3, 1024), np.int64)
        self.scores = np.zeros(1024)
        self._work_out([self._slot(*item) for item in pairs.counts.items()])

    def best(self) -> Pair | None:
        """The pair with the highest score, of equals the smallest; None where no pair is left."""
        highest = self.scores.max()
        if highest == 0:
            return None
        equals = np.flatnonzero(self.scores == highest)
        return min(zip(self.left[equals].tolist(), self.right[equals].tolist(), strict=True))

    def merge(self, pair: Pair, new: int) -> None:
        left, right = pair
        made, times = self.pairs.merge(pair, new)
        fewer = [(x, left) for x, y in made if y == new] + [(right, y) for x, y in made if x == new]
        self.frequency[new] = times
        for token in pair:
            self.frequency[token] -= times
        slots = [self._slot(other, self.pairs.counts[other]) for other in (*made, *fewer, pair)]
        for token in {*pair}:
            with_token = np.array(self.with_token[token])
            alive = with_token[self.counts[with_token] > 0].tolist()
            self.with_token[token] = alive
            slots += alive
        self._work_out(slots)

    def _slot(self, pair: Pair, count: int) -> int:
        """The slot of a pair, which occurs so often now."""
        slot = self.slots.get(pair)
        if slot is None:
            slot = self.slots[pair] = len(self.slots)
            if slot == len(self.scores):
                self.left, self.right, self.counts, self.scores = (
                    np.concatenate([array, np.zeros_like(array)])
                    for array in (self.left, self.right, self.counts, self.scores)
                )
            self.left[slot], self.right[slot] = pair
            for token in {*pair}:
                self.with_token[token].append(slot)
        self.counts[slot] = count
        return slot

    def _work_out(self, slots: list[int]) -> None:
        """The scores at these slots, f(ab) / (f(a) f(b)). Whole numbers below 2**53 are exact, and
        quotients of equal value come out equal."""
        at = np.array(slots, np.int64)
        f = self.frequency
        apart = f[self.left[at]] * f[self.right[at]]
        together = np.where(self.counts[at] >= self.min_frequency, self.counts[at], 0)
        self.scores[at] = together / np.maximum(apart, 1)
