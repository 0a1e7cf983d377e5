"""Learning merges fast: count every pair once, then correct the counts around each merge.

The same merges as bpe_textbook.learn_merges, which looks at the whole text for each of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping

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
    queue = Queue(pairs.counts)
    merges: dict[Pair, int] = {}
    with progress_bar(progress, "learning merges", n_merges, " merges") as bar:
        while len(merges) < n_merges:
            pair = queue.pop()
            if pair is None or queue.count < min_frequency:
                break
            new = merges[pair] = 256 + len(merges)
            made, _ = pairs.merge(pair, new)
            queue.add(made)
            bar.update()
    return merges


class Queue:
    """Pairs, the most frequent first, of equals the smallest.

    A count only falls once its pair is here, since new pairs all hold the new token, and none is
    above that of the pair they come from. So pairs wait with those of the same count, and one
    whose count has fallen is put where it belongs when its turn comes.
    """

    def __init__(self, counts: Mapping[Pair, int]):
        self.counts = counts
        self.count = max(counts.values(), default=0)  # of those whose turn it is
        self.turn: list[Pair] = []  # a heap
        self.waiting: dict[int, list[Pair]] = {}  # by count
        self.next_counts: list[int] = []  # a heap of those counts, negative
        self.add(counts)

    def add(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            count = self.counts[pair]
            if count == self.count:
                heapq.heappush(self.turn, pair)
            elif count in self.waiting:
                self.waiting[count].append(pair)
            elif count:  # 0: made, and broken up by the next place
                self.waiting[count] = [pair]
                heapq.heappush(self.next_counts, -count)

    def pop(self) -> Pair | None:
        """The next pair, which occurs `count` times; None where none is left."""
        while True:
            while self.turn:
                pair = heapq.heappop(self.turn)
                if self.counts[pair] == self.count:
                    return pair
                self.add([pair])
            if not self.next_counts:
                return None
            self.count = -heapq.heappop(self.next_counts)
            self.turn = self.waiting.pop(self.count)
            heapq.heapify(self.turn)
