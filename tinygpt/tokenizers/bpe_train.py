"""Learning merges fast: count every pair once, then correct the counts around each merge.

The same merges as bpe_textbook.learn_merges, which looks at the whole text for each of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from .pairs import Pair, Pairs
from .words import progress_bar


def learn_merges(
    words: Mapping[str, int], n_merges: int, min_frequency: int = 1, progress: bool = False
) -> dict[Pair, int]:
    """{pair: id of the token it becomes}, in the order learned; fewer if the pairs run out.

    words: how often each word occurs. Ids below 256 are bytes, merge k makes token 256 + k.
    The pair to merge is the one with the highest count, of equals the smallest pair of ids, so
    the order of the words does not matter. In "aaa" the left "aa" is merged.
    min_frequency: of the least frequent pair to merge. progress: show a bar on the terminal.
    """
    pairs = Pairs(((word.encode("utf-8"), count) for word, count in words.items()), 256)
    counts = pairs.counts
    # A heap, the most frequent on top. A count only falls once its pair is in the heap, since new
    # pairs all hold the new token. So an entry whose count is out of date goes back in corrected.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: dict[Pair, int] = {}

    with progress_bar(progress, "learning merges", n_merges, " merges") as bar:
        while heap and len(merges) < n_merges:
            count, pair = heapq.heappop(heap)
            if -count != counts[pair]:
                if counts[pair]:
                    heapq.heappush(heap, (-counts[pair], pair))
                continue
            if -count < min_frequency:
                break
            new = merges[pair] = 256 + len(merges)
            made, _, _ = pairs.merge(pair, new)
            for other in made:
                if counts[other]:  # 0: made, and broken up by the next place
                    heapq.heappush(heap, (-counts[other], other))
            bar.update()
    return merges
