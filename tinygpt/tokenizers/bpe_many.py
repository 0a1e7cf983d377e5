"""The words of a long text all at once, in NumPy, which is faster than one after the other.

Words become numbers, equal ones the same number; those that are new are merged, all of them
together; then each word's ids are put where it stands. The result is that of BPE, word by word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from .numbering import Numbering
from .pairs import Pair

BLOCK = 1 << 18  # bytes dealt with at a time
NUMBERS = 1 << 19  # for the words that are remembered: at most some 30 MB
LONGEST = 64  # bytes of a word that is remembered, and merged together with others
NEVER = 1 << 24  # the rank of a pair that is not merged

PAD = b"\xff" * 8  # after a text: bytes that UTF-8 does not have
AFTER = np.array([(1 << 64) - (1 << 8 * size) for size in range(8)] + [0], np.uint64)


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
        self.numbering = Numbering(NUMBERS + sum(len(word) // 8 + 1 for word in self.whole))
        self.first = np.zeros(self.numbering.room + 1, np.int64)  # where a word's ids begin
        self.count = np.zeros(self.numbering.room + 1, np.uint8)  # how many they are; 0: not known
        self.clear()

    def clear(self) -> None:
        """Forget all words but those that are tokens."""
        self.numbering.clear()
        self.count[:] = 0
        self.count[0] = 1  # number 0 is no word's
        self.ids = np.array([0, *self.whole.values()], self.dtype)
        letters, starts = in_a_row(list(self.whole))
        numbers = self.numbers(letters, starts)
        self.first[numbers] = np.arange(1, len(numbers) + 1)
        self.count[numbers] = 1

    def encode(self, text: str, begins: np.ndarray) -> bytes:
        """begins: of each character, whether a word begins with it.   -> ids, as bytes."""
        letters = np.frombuffer(text.encode("utf-8") + PAD, np.uint8)
        size = len(letters) - len(PAD)
        if size > len(text):
            characters = letters[:size] & 0xC0 != 0x80  # the first byte of each
            characters[characters] = begins
            begins = characters
        # A word can be cut between two letters that stand side by side in no token.
        two = np.ndarray((size - 1,), "<u2", letters, strides=(1,))
        begins[1:] |= ~self.joined[two]
        starts = np.append(np.flatnonzero(begins), size)
        edges = np.searchsorted(starts, np.arange(0, size, BLOCK))
        edges = np.append(np.unique(edges), len(starts) - 1)
        blocks = (starts[a : b + 1] for a, b in zip(edges, edges[1:], strict=False))
        return b"".join([self.encode_words(letters, block).tobytes() for block in blocks])

    def encode_words(self, letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The ids of the words from each start to the next."""
        if self.numbering.size + BLOCK + LONGEST > self.numbering.room:
            self.clear()
        numbers = self.numbers(letters, starts)
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

    def numbers(self, letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """A number for each word up to LONGEST, the same for the same ones; 0 for longer words.

        A word is a way through a tree: its first eight letters lead from 0 to some number, that
        and the next eight letters to another, and so on.
        """
        eight = np.ndarray((len(letters) - 7,), "<u8", letters, strides=(1,))  # from each place on
        length = np.diff(starts)
        numbers = np.zeros(len(length), np.int32)
        going = np.flatnonzero(length <= LONGEST)
        place, length = starts[going], length[going]
        while len(going):
            step = eight[place] | AFTER[np.minimum(length, 8)]
            numbers[going] = self.numbering.numbers(step, numbers[going], add=True)
            longer = length > 8
            going, place, length = going[longer], place[longer] + 8, length[longer] - 8
        return numbers

    def learn(
        self, letters: np.ndarray, starts: np.ndarray, numbers: np.ndarray, new: np.ndarray
    ) -> None:
        """Merge the new words: of those with one number only one, no matter which."""
        one = np.full(self.numbering.size, -1)
        one[numbers[new]] = new
        different = np.flatnonzero(one >= 0)
        place = starts[one[different]]
        length = starts[one[different] + 1] - place
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

    merges, ranks: as in BPE; two pairs of one rank make the same token.
    byte_ids: the id of each byte.
    """

    def __init__(self, merges: Mapping[Pair, int], ranks: Mapping[Pair, int], byte_ids: list[int]):
        left, right = np.array(list(merges), np.int32).reshape(-1, 2).T
        self.pairs = Numbering(len(merges))
        number = self.pairs.numbers(left, right, add=True)
        self.ranks = np.full(len(merges) + 1, NEVER, np.int32)  # by number
        self.ranks[number] = rank = [ranks[pair] for pair in merges]
        self.made = np.zeros(max(rank, default=0) + 1, np.int32)  # by rank
        self.made[rank] = list(merges.values())
        self.byte_ids = np.array(byte_ids, np.int32)
        left, right = np.repeat(self.byte_ids, 256), np.tile(self.byte_ids, 256)
        self.of_bytes = self.rank(left, right).reshape(256, 256)

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
        ranks = np.zeros((longest - 1, 0), np.int32)  # (w - 1, n), of neighbours
        for w in range(longest, 1, -1):
            which, ids, ranks = self._with_those_of(w, letters, starts, lengths, which, ids, ranks)
            # The next merge of each word, of equals the leftmost: the least of (rank, place).
            next_merge = (ranks * LONGEST + np.arange(w - 1, dtype=np.int32)[:, None]).min(axis=0)
            done = next_merge >= NEVER * LONGEST
            yield which[done], ids.compress(done, axis=1)
            which, ids, ranks = which[~done], ids.compress(~done, 1), ranks.compress(~done, 1)
            rank, place = np.divmod(next_merge[~done], LONGEST)

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


def in_a_row(words: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """The letters of all words, and PAD; where each word starts, and where the last one ends."""
    return np.frombuffer(b"".join(words) + PAD, np.uint8), np.cumsum([0, *map(len, words)])


def neighbours(tokens: list[bytes]) -> np.ndarray:
    """Of each a + 256 b, whether byte a stands before byte b in some token."""
    letters, starts = in_a_row(tokens)
    two = np.ndarray((len(letters) - 1,), "<u2", letters, strides=(1,)).copy()
    inside = np.ones(len(two), bool)
    inside[starts[1:] - 1] = False
    inside[starts[-1] :] = False
    there = np.zeros(1 << 16, bool)
    there[two[inside]] = True
    return there
