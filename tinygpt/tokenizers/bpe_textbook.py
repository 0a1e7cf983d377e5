"""Byte-pair encoding as a textbook has it: ten minutes to read, and slow.

    merges = learn_merges({"the": 2, " cat": 1}, n_merges=3)
    ids = apply_merges("the cat".encode("utf-8"), merges)

Start from bytes. Count all pairs of neighbours, give the most frequent pair a new id, put that
wherever the pair stands, and begin again. bpe.py and bpe_train.py do the same in less time, and the
tests hold them to what is written here.

Sennrich, Haddow & Birch 2016, arXiv:1508.07909, algorithm 1; over bytes instead of characters, so
that no text is unknown, as in Radford et al. 2019 (GPT-2), section 2.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

Pair = tuple[int, int]


def learn_merges(
    words: Mapping[str, int], n_merges: int, min_frequency: int = 1
) -> dict[Pair, int]:
    """{pair: the id of the token it becomes}, in the order learned; fewer if the pairs run out.

    words: how often each word occurs. Ids below 256 are bytes, merge k makes token 256 + k. The
    pair with the highest count is next, of equals the smallest pair of ids. So the order of the
    words does not matter.
    """
    rows = [(list(word.encode("utf-8")), count) for word, count in words.items()]
    merges: dict[Pair, int] = {}
    while len(merges) < n_merges:
        counts: Counter[Pair] = Counter()
        for ids, count in rows:
            for pair in pairwise(ids):
                counts[pair] += count
        if max(counts.values(), default=0) < min_frequency:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[pair] = 256 + len(merges)
        rows = [(merge(ids, pair, merges[pair]), count) for ids, count in rows]
    return merges


def merge(ids: Iterable[int], pair: Pair, new: int) -> list[int]:
    """Wherever the pair stands, from left to right, put one token: in a a a, the first two."""
    out: list[int] = []
    for i in ids:
        if out and (out[-1], i) == pair:
            out[-1] = new
        else:
            out.append(i)
    return out


def apply_merges(ids: Iterable[int], merges: Mapping[Pair, int]) -> list[int]:
    """A word's bytes -> its tokens: make every merge, in the order in which they were learned."""
    row = list(ids)
    for pair, new in merges.items():
        row = merge(row, pair, new)
    return row
