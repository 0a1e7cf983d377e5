"""Learning merges fast: count every pair once, then correct the counts around each merge.

The same merges as bpe_textbook.learn_merges, which looks at the whole text for each of them.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from .words import progress_bar

Pair = tuple[int, int]

NONE = -1  # in a row of tokens: no token starts here


def learn_merges(
    words: Mapping[str, int], n_merges: int, min_frequency: int = 1, progress: bool = False
) -> dict[Pair, int]:
    """{pair: id of the token it becomes}, in the order learned; fewer if the pairs run out.

    words: how often each word occurs. Ids below 256 are bytes, merge k makes token 256 + k.
    The pair to merge is the one with the highest count, of equals the smallest pair of ids, so
    the order of the words does not matter. In "aaa" the left "aa" is merged.
    min_frequency: of the least frequent pair to merge. progress: show a bar on the terminal.

    All words stand in one row with NONE between them. A token takes as many places as it has bytes,
    and writes its id on the first and on the last of them: `row[i + size]` is the token after the
    one at place i, `row[i - 1]` the token before. Merging is three writes, whatever the length.
    """
    row, weights = in_a_row(words)
    counts, places = count_pairs(row, weights)
    sizes = [1] * 256

    # A heap, the most frequent on top. A count only falls once its pair is in the heap, since new
    # pairs all hold the new token. So an entry whose count is out of date goes back in corrected.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: dict[Pair, int] = {}
    bar = progress_bar(progress, "learning merges", n_merges, " merges")

    while heap and len(merges) < n_merges:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:
            if counts[pair]:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        if -count < min_frequency:
            break

        left, right = pair
        left_size, right_size = sizes[left], sizes[right]
        new = merges[pair] = 256 + len(merges)
        sizes.append(left_size + right_size)

        # x left right y: x new and new y come, x left and right y go.
        before: defaultdict[int, int] = defaultdict(int)  # {x: how often}
        after: defaultdict[int, int] = defaultdict(int)  # {y: how often}
        before_at: defaultdict[int, list[int]] = defaultdict(list)  # {x: where}
        after_at: defaultdict[int, list[int]] = defaultdict(list)
        where = places.pop(pair)
        if left == right:
            where.sort()  # in "aaa" the left "aa"; other pairs never overlap
        for i in where:
            middle = i + left_size
            if row[i] != left or row[middle] != right:
                continue  # one of them has since become part of another token
            end = middle + right_size
            x, y, weight = row[i - 1], row[end], weights[i]
            row[middle] = NONE
            row[i] = row[end - 1] = new
            if x != NONE:
                before[x] += weight
                before_at[x].append(i - sizes[x])
            if y != NONE:
                after[y] += weight
                after_at[y].append(i)

        made: defaultdict[Pair, int] = defaultdict(int)
        for x, count in before.items():
            counts[x, left] -= count
            made[x, new] += count
            places[x, new] += before_at[x]
        for y, count in after.items():
            counts[right, y] -= count
            made[new, y] += count
            places[new, y] += after_at[y]
        # In "abab" the second merge takes back a (new, a) that the first one made.
        for gone in ((new, left), (right, new)):
            made[gone] += counts.pop(gone, 0)
        for pair, count in made.items():
            if count:
                counts[pair] = count
                heapq.heappush(heap, (-count, pair))
        counts[left, right] = 0
        bar.update()
    bar.close()
    return merges


def in_a_row(words: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The bytes of all words, NONE around each, and for every place how often its word occurs."""
    row = [NONE]
    weights = [0]
    for word, count in words.items():
        letters = word.encode("utf-8")
        row += letters
        row.append(NONE)
        weights += [count] * (len(letters) + 1)
    return row, weights


def count_pairs(
    row: Iterable[int], weights: Iterable[int]
) -> tuple[defaultdict[Pair, int], defaultdict[Pair, list[int]]]:
    """How often each pair of bytes occurs, and the places where it stands."""
    ids = np.array(row, np.int64)
    starts = np.flatnonzero((ids[:-1] != NONE) & (ids[1:] != NONE))
    keys = ids[starts] * 256 + ids[starts + 1]
    order = np.argsort(keys, kind="stable")
    starts = starts[order]
    pairs, first = np.unique(keys[order], return_index=True)

    counts: defaultdict[Pair, int] = defaultdict(int)
    places: defaultdict[Pair, list[int]] = defaultdict(list)
    of_starts = np.array(weights, np.int64)[starts]
    for key, where, of_where in zip(
        pairs.tolist(),
        np.split(starts, first[1:]),
        np.split(of_starts, first[1:]),
        strict=False,  # without any pair there is one empty piece
    ):
        pair = divmod(key, 256)
        counts[pair] = int(of_where.sum())
        places[pair] = where.tolist()
    return counts, places
