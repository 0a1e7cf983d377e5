"""All distinct words in one row, with the places and the counts of every pair of neighbours.

What learning BPE (bpe_train.py) and WordPiece (wordpiece_train.py) have in common: merging a pair
touches only the places where it stands, and corrects the counts around them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

Pair = tuple[int, int]

NONE = -1  # in the row: no token starts here


class Pairs:
    """words: each as the ids of its first tokens, and how often it occurs.

    counts   {pair: how often it occurs}
    places   {pair: where in the row it stands}; it may stand there no longer

    The words stand in one row with NONE between them. A token takes as many places as the tokens
    it is made of, and writes its id on the first and on the last of them: `row[i + size]` is the
    token after the one at place i, `row[i - 1]` the token before. Merging is three writes, however
    long the tokens are.
    """

    def __init__(self, words: Iterable[tuple[Sequence[int], int]], n_tokens: int):
        self.row = [NONE]
        self.weights = [0]  # for every place, how often its word occurs
        for ids, count in words:
            self.row += ids
            self.row.append(NONE)
            self.weights += [count] * (len(ids) + 1)
        self.sizes = [1] * n_tokens
        self.counts: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)
        self._count(n_tokens)

    def _count(self, n_tokens: int) -> None:
        ids = np.array(self.row, np.int64)
        starts = np.flatnonzero((ids[:-1] != NONE) & (ids[1:] != NONE))
        keys = ids[starts] * n_tokens + ids[starts + 1]
        order = np.argsort(keys, kind="stable")
        starts = starts[order]
        pairs, first = np.unique(keys[order], return_index=True)
        weights = np.array(self.weights, np.int64)[starts]
        by_pair = np.split(starts, first[1:]), np.split(weights, first[1:])
        # Without any pair there is still one empty piece: not strict.
        for key, where, of_where in zip(pairs.tolist(), *by_pair, strict=False):
            pair = divmod(key, n_tokens)
            self.counts[pair] = int(of_where.sum())
            self.places[pair] = where.tolist()

    def merge(self, pair: Pair, new: int) -> tuple[set[Pair], int]:
        """Put `new` wherever the pair stands; in "aaa" the left "aa".

        Returns the pairs that hold `new`, and how often `new` occurs.
        """
        left, right = pair
        row, weights, sizes = self.row, self.weights, self.sizes
        counts, places = self.counts, self.places
        left_size, right_size = sizes[left], sizes[right]
        sizes.append(left_size + right_size)

        made = set()
        times = 0
        where = places.pop(pair)
        if left == right:
            where.sort()  # from left to right; other pairs cannot overlap
        for i in where:
            middle = i + left_size
            if row[i] != left or row[middle] != right:
                continue  # one of them has since become part of another token
            end = middle + right_size
            x, y, weight = row[i - 1], row[end], weights[i]
            times += weight
            row[middle] = NONE
            row[i] = row[end - 1] = new

            # x left right y: x new and new y have come, x left and right y have gone. In "abab"
            # the second merge takes back the (new, a) that the first one made.
            if x != NONE:
                counts[x, left] -= weight
                come = x, new
                counts[come] += weight
                places[come].append(i - sizes[x])
                made.add(come)
            if y != NONE:
                counts[right, y] -= weight
                come = new, y
                counts[come] += weight
                places[come].append(i)
                made.add(come)
        counts[pair] = 0
        return made, times
