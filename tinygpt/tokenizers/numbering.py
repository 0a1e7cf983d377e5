"""A number for every different pair of integers, for whole arrays of pairs at once.

What a dict does for one key after the other. A hash says in which slot a pair is looked for; where
another pair is in that slot, in the next one, and so on ("linear probing": Knuth, The Art of
Computer Programming, volume 3, section 6.4). All pairs of an array take each step together.
"""

from __future__ import annotations

import numpy as np

SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: takes neighbours far apart


class Numbering:
    """The first pair is number 1, the next different one 2, and so on: `size` - 1 of them so far.

    room: how many there may be. At least half of the slots stay empty: searches are short.
    """

    def __init__(self, room: int):
        self.room = room
        bits = (2 * room).bit_length()
        self.shift = np.uint64(64 - bits)
        self.slots = np.zeros(1 << bits, np.int32)  # the number of the pair that is here, or 0
        self.a = np.zeros(room + 1, np.uint64)  # of each number
        self.b = np.zeros(room + 1, np.uint64)
        self.size = 1

    def has_room(self, more: int) -> bool:
        return self.size + more <= self.room + 1

    def numbers(self, a: np.ndarray, b: np.ndarray, add: bool = False) -> np.ndarray:
        """The numbers of the pairs (a[i], b[i]); 0 for those that have none, unless they are to be
        added."""
        a, b = a.astype(np.uint64), b.astype(np.uint64)
        numbers = np.zeros(len(a), np.int32)
        rest = np.arange(len(a))
        slot = self._first_slot(a, b)
        while len(rest):
            number = self.slots[slot]
            if add and not number.all():
                self._fill(slot, a, b)
                number = self.slots[slot]
            numbers[rest] = number
            another = (self.a[number] != a) | (self.b[number] != b)
            another &= number != 0
            rest, a, b = rest[another], a[another], b[another]
            slot = (slot[another] + 1) % len(self.slots)
        return numbers

    def _first_slot(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        mixed = (a ^ b * SPREAD) * SPREAD
        mixed ^= mixed >> np.uint64(32)
        mixed *= SPREAD
        return (mixed >> self.shift).astype(np.int64)

    def _fill(self, slot: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
        """Put into each empty slot that is asked for one of the pairs that ask for it."""
        asking = np.flatnonzero(self.slots[slot] == 0)
        self.slots[slot[asking]] = asking  # of several, one stays
        first = asking[self.slots[slot[asking]] == asking]
        new = np.arange(self.size, self.size + len(first))
        self.slots[slot[first]] = new
        self.a[new], self.b[new] = a[first], b[first]
        self.size += len(first)
