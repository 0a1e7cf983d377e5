"""The words of a text as an array of numbers: equal words have the same number.

A letter here, and in bpe_many.py, is a byte. Words are two arrays: the letters of all words in a
row, followed by PAD, and the places where words start, the last being where the last word ends.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from .numbering import Numbering

LONGEST = 255  # bytes of a word that has a number; its ids can be counted in a byte
BLOCK = 1 << 19  # bytes of text dealt with at a time
NUMBERS = (1 << 19) + LONGEST  # for words that are remembered, enough for those of a block

PAD = b"\xff" * 8  # after a text: bytes that UTF-8 does not have
AFTER = np.array([(1 << 64) - (1 << 8 * size) for size in range(8)] + [0], np.uint64)


def in_a_row(words: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """These words as letters and starts."""
    return np.frombuffer(b"".join(words) + PAD, np.uint8), np.cumsum([0, *map(len, words)])


def of_text(text: str, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The letters of a text, and of each whether a word begins with it.

    begins: of each character, whether a word begins with it.
    """
    letters = np.frombuffer(text.encode("utf-8") + PAD, np.uint8)
    if len(letters) > len(text) + len(PAD):
        characters = letters[: -len(PAD)] & 0xC0 != 0x80  # where one begins
        characters[characters] = begins
        begins = characters
    return letters, begins


def in_blocks(starts: np.ndarray) -> list[np.ndarray]:
    """The starts of the words in each BLOCK of letters, and where the last one ends."""
    edges = np.unique(np.searchsorted(starts, np.arange(0, starts[-1], BLOCK)))
    edges = np.append(edges, len(starts) - 1)
    return [starts[a : b + 1] for a, b in zip(edges, edges[1:], strict=False)]


def most_numbers(starts: np.ndarray) -> int:
    """How many new numbers word_numbers may give."""
    return int((np.diff(starts) // 8).sum()) + len(starts)


def word_numbers(numbering: Numbering, letters: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A number for each word up to LONGEST, a new one for a new word; 0 for longer words.

    A word is a way through a tree: its first eight letters lead from 0 to some number, that and
    the next eight letters to another, and so on.
    """
    eight = np.ndarray((len(letters) - 7,), "<u8", letters, strides=(1,))  # from each place on
    length = np.diff(starts)
    numbers = np.zeros(len(length), np.int32)
    going = np.flatnonzero(length <= LONGEST)
    place, length = starts[going], length[going]
    while len(going):
        step = eight[place] | AFTER[np.minimum(length, 8)]
        numbers[going] = numbering.numbers(step, numbers[going], add=True)
        longer = length > 8
        going, place, length = going[longer], place[longer] + 8, length[longer] - 8
    return numbers


def one_of_each(numbers: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Of the places `among`, one for each different number there, in the order of the numbers."""
    one = np.full(int(numbers.max(initial=0)) + 1, -1)
    one[numbers[among]] = among
    return one[one >= 0]


class WordCounter:
    """count(text, begins): how often each word occurs; begins as for of_text."""

    def __init__(self):
        self.numbering = Numbering(NUMBERS)
        self.times = np.zeros(NUMBERS + 1, np.int64)  # of each number, in this text
        self.spans = np.zeros((NUMBERS + 1, 2), np.int64)  # where such a word stands in it

    def count(self, text: str, begins: np.ndarray) -> Counter[str]:
        letters, begins = of_text(text, begins)
        counts: Counter[str] = Counter()
        for starts in in_blocks(np.append(np.flatnonzero(begins), len(begins))):
            if not self.numbering.has_room(most_numbers(starts)):
                counts += self._counts(letters)
                self.numbering = Numbering(NUMBERS)
            numbers = word_numbers(self.numbering, letters, starts)
            times = np.bincount(numbers)
            self.times[1 : len(times)] += times[1:]
            spans = np.stack([starts[:-1], starts[1:]], axis=1)
            self.spans[numbers] = spans
            counts.update(words_at(letters, spans[numbers == 0]))
        return counts + self._counts(letters)

    def _counts(self, letters: np.ndarray) -> Counter[str]:
        """What has been counted, and is now forgotten."""
        there = np.flatnonzero(self.times)
        words, times = words_at(letters, self.spans[there]), self.times[there].tolist()
        self.times[there] = 0
        return Counter(dict(zip(words, times, strict=True)))


def words_at(letters: np.ndarray, spans: np.ndarray) -> list[str]:
    return [letters[a:b].tobytes().decode("utf-8") for a, b in spans.tolist()]
