"""The words of a long text all at once, in NumPy, which is faster than one after the other.

Words become numbers, equal ones the same number; those that are new are merged, all of them
together; then each word's ids are put where it stands. The result is that of BPE, word by word.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import numpy as np

from .numbering import Numbering
from .pairs import Pair
from .word_numbers import (
    LONGEST,
    NUMBERS,
    in_a_row,
    in_blocks,
    most_numbers,
    of_text,
    one_of_each,
    word_numbers,
)

NEVER = 1 << 24  # the rank of a pair that is not merged. NEVER * (LONGEST + 1) is 32 bits


class ManyWords:
    """encode(...), and the words it remembers.

    tokens         every token that a word may be made of
    whole          {word: its id}: words that are not merged
    encode_long    word -> ids, for words longer than LONGEST
    """

    def __init__(
        self,
        tokens: list[bytes],
        whole: Mapping[bytes, int],
        merger: Merger,
        encode_long: Callable[[bytes], bytes],
        dtype: np.dtype,
    ):
        # Where whole words are looked up, half a word must not be taken for one: none is cut.
        self.joined = np.ones(1 << 16, bool) if whole else neighbours(tokens)
        self.whole = {word: i for word, i in whole.items() if len(word) <= LONGEST}
        self.merger = merger
        self.encode_long = encode_long
        self.dtype = dtype
        self.lock = threading.Lock()  # a thread must not change the tables while another reads them
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know no words but those that are tokens."""
        letters, starts = in_a_row(list(self.whole))
        room = NUMBERS + most_numbers(starts)
        self.numbering = Numbering(room)
        self.first = np.zeros(room + 1, np.int64)  # of each number, where the word's ids begin
        self.count = np.zeros(room + 1, np.uint8)  # and how many they are; 0: not known
        self.count[0] = 1  # number 0 is no word's
        self.ids = np.array([0, *self.whole.values()], self.dtype)
        numbers = word_numbers(self.numbering, letters, starts)
        self.first[numbers] = np.arange(1, len(numbers) + 1)
        self.count[numbers] = 1

    def encode(self, text: str, begins: np.ndarray) -> bytes:
        """begins: of each character, whether a word begins with it.   -> ids, as bytes."""
        letters, begins = of_text(text, begins)
        # A word can be cut between two letters that stand side by side in no token.
        two = np.ndarray((len(begins) - 1,), "<u2", letters, strides=(1,))
        begins[1:] |= ~self.joined[two]
        starts = np.append(np.flatnonzero(begins), len(begins))
        with self.lock:
            ids = [self.encode_words(letters, block).tobytes() for block in in_blocks(starts)]
        return b"".join(ids)

    def encode_words(self, letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The ids of the words from each start to the next."""
        if not self.numbering.has_room(most_numbers(starts)):
            self.begin_anew()
        numbers = word_numbers(self.numbering, letters, starts)
        new = np.flatnonzero(self.count[numbers] == 0)
        if len(new):
            self.learn(letters, starts, numbers, new)
        first, count, ids = self.first[numbers], self.count[numbers].astype(np.int64), self.ids

        long = np.flatnonzero(np.diff(starts) > LONGEST)
        if len(long):
            words = [letters[starts[k] : starts[k + 1]].tobytes() for k in long]
            encoded = [np.frombuffer(self.encode_long(word), self.dtype) for word in words]
            count[long] = sizes = np.array([len(some) for some in encoded])
            first[long] = len(ids) + np.cumsum(sizes) - sizes
            ids = np.concatenate([ids, *encoded])

        ends = np.cumsum(count)
        at = np.repeat(first - ends + count, count)
        at += np.arange(len(at))
        return ids[at]

    def learn(
        self, letters: np.ndarray, starts: np.ndarray, numbers: np.ndarray, new: np.ndarray
    ) -> None:
        """Merge the new words: of those with one number only one, no matter which."""
        new = one_of_each(numbers, new)
        different, place = numbers[new], starts[new]
        length = starts[new + 1] - place
        ids = [self.ids]
        end = len(self.ids)
        for which, merged in self.merger.encode(letters, place, length):
            size, n = merged.shape
            self.first[different[which]] = end + size * np.arange(n)
            self.count[different[which]] = size
            ids.append(merged.T.astype(self.dtype).ravel())
            end += size * n
        self.ids = np.concatenate(ids)


class Merger:
    """Merging in many words together: the result is that of bpe.apply_merges for each of them.

    merges, ranks: as in BPE, in the same order; two pairs of one rank make the same token.
    byte_ids: the id of each byte.
    """

    def __init__(self, merges: Mapping[Pair, int], ranks: Mapping[Pair, int], byte_ids: list[int]):
        n = len(merges)
        left, right = np.fromiter(chain.from_iterable(merges), np.int32, 2 * n).reshape(n, 2).T
        rank = np.fromiter(ranks.values(), np.uint32, n)
        self.pairs = Numbering(2 * n)
        self.ranks = np.full(n + 1, NEVER, np.uint32)  # by number
        self.ranks[self.pairs.numbers(left, right, add=True)] = rank
        self.made = np.zeros(int(rank.max(initial=0)) + 1, np.int32)  # by rank
        self.made[rank] = np.fromiter(merges.values(), np.int32, n)

        self.byte_ids = np.array(byte_ids, np.int32)
        byte = np.full(max(left.max(initial=0), right.max(initial=0), *byte_ids) + 1, -1)
        byte[self.byte_ids] = np.arange(256)  # of each id; -1 where it is not that of a byte
        both = (byte[left] >= 0) & (byte[right] >= 0)
        self.of_bytes = np.full((256, 256), NEVER, np.uint32)
        self.of_bytes[byte[left[both]], byte[right[both]]] = rank[both]

    def rank(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The ranks of pairs of ids; NEVER for those that are not merged."""
        return self.ranks[self.pairs.numbers(left, right)]

    def encode(
        self, letters: np.ndarray, starts: np.ndarray, lengths: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The words that start there: yields which of them have w tokens, and their ids (w, n).

        From the longest words down: all that have w tokens now make their next merge, have one
        token less, and are together with the words that were so long from the outset.
        """
        longest = int(lengths.max(initial=1))
        which = np.zeros(0, np.int64)  # (n,)
        ids = np.zeros((longest, 0), np.int32)  # (w, n)
        ranks = np.zeros((longest - 1, 0), np.uint32)  # (w - 1, n), of neighbours
        for w in range(longest, 1, -1):
            which, ids, ranks = self._with_those_of(w, letters, starts, lengths, which, ids, ranks)
            # The next merge of each word, of equals the leftmost: the least of (rank, place).
            places = np.arange(w - 1, dtype=np.uint32)[:, None]
            next_merge = (ranks * LONGEST + places).min(axis=0)
            done = next_merge >= NEVER * LONGEST
            yield which[done], ids.compress(done, axis=1)
            which, ids, ranks = which[~done], ids.compress(~done, 1), ranks.compress(~done, 1)
            rank, place = np.divmod(next_merge[~done].astype(np.int64), LONGEST)

            n = np.arange(len(which))
            ids[place, n] = self.made[rank]
            ids = np.where(np.arange(w - 1)[:, None] <= place, ids[:-1], ids[1:])
            ranks = np.where(np.arange(w - 2)[:, None] <= place, ranks[:-1], ranks[1:])
            left, n = np.append(place - 1, place), np.append(n, n)  # the pairs with the new token
            there = (left >= 0) & (left < w - 2)
            left, n = left[there], n[there]
            ranks[left, n] = self.rank(ids[left, n], ids[left + 1, n])
        which, ids, ranks = self._with_those_of(1, letters, starts, lengths, which, ids, ranks)
        yield which, ids

    def _with_those_of(self, w, letters, starts, lengths, which, ids, ranks):
        """Adds the words of w letters."""
        those = np.flatnonzero(lengths == w)
        rows = letters[starts[those] + np.arange(w)[:, None]]  # (w, n)
        return (
            np.append(which, those),
            np.append(ids, self.byte_ids[rows], axis=1),
            np.append(ranks, self.of_bytes[rows[:-1], rows[1:]], axis=1),
        )


def neighbours(tokens: list[bytes]) -> np.ndarray:
    """Of each a + 256 b, whether byte a stands before byte b in some token."""
    letters = np.frombuffer(b"\xff".join(tokens), np.uint8).astype(np.int64)
    there = np.zeros(1 << 16, bool)
    there[letters[:-1] + 256 * letters[1:]] = True
    return there
