"""Merging in many words at once, in NumPy, which is faster than one after the other.

In each round every word makes its next merge, until none is left; words that are done step aside.
The result is that of bpe.apply_merges for each word.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .pairs import Pair

NEVER = 1 << 30  # the rank of a pair that is not merged


class Merger:
    """merges, ranks: as in BPE; two pairs of one rank make the same token.
    byte_ids: the id of each byte."""

    def __init__(self, merges: Mapping[Pair, int], ranks: Mapping[Pair, int], byte_ids: list[int]):
        pairs = np.array(list(merges), np.int64).reshape(-1, 2)
        rank = np.array([ranks[pair] for pair in merges], np.int64)
        self.made = np.zeros(int(rank.max(initial=0)) + 1, np.int64)  # by rank
        self.made[rank] = list(merges.values())
        self.base = max(int(pairs.max(initial=0)), max(byte_ids)) + 1
        keys = pairs[:, 0] * self.base + pairs[:, 1]
        order = np.argsort(keys)
        self.keys = np.append(keys[order], np.int64(1) << 62)
        self.ranks = np.append(rank[order], NEVER)
        self.byte_ids = np.array(byte_ids, np.int64)
        self.of_bytes = self.rank(self.byte_ids[:, None], self.byte_ids)  # (256, 256)

    def rank(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The ranks of pairs of ids; NEVER for those that are not merged."""
        keys = left * self.base + right
        at = np.searchsorted(self.keys, keys)
        return np.where(self.keys[at] == keys, self.ranks[at], NEVER)

    def encode(self, words: list[bytes], dtype: np.dtype) -> list[bytes]:
        """The ids of each word, as the bytes of an array."""
        lengths = np.array([len(word) for word in words], np.int64)
        letters = np.frombuffer(b"".join(words), np.uint8)
        row = self.byte_ids[letters]  # the tokens of all words
        rank = np.full(len(row), NEVER)  # of each token with the one after it
        rank[:-1] = self.of_bytes[letters[:-1], letters[1:]]
        rank[np.cumsum(lengths) - 1] = NEVER
        which = np.arange(len(words))  # words in the row
        done: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # which, lengths, row

        while len(which):
            # The next merge of each word, of equals the leftmost: the least of (rank, place).
            starts = np.cumsum(lengths) - lengths
            least = np.minimum.reduceat((rank << 32) + np.arange(len(row)), starts)
            next_rank, at = least >> 32, least & 0xFFFFFFFF

            going = next_rank < NEVER
            if not going.all():
                in_row = np.repeat(going, lengths)
                done.append((which[~going], lengths[~going], row[~in_row]))
                which, lengths, next_rank = which[going], lengths[going], next_rank[going]
                at = (np.cumsum(in_row) - 1)[at[going]]
                row, rank = row[in_row], rank[in_row]
                if not len(which):
                    break
                starts = np.cumsum(lengths) - lengths

            row[at] = self.made[next_rank]
            stays = np.ones(len(row), bool)
            stays[at + 1] = False
            row, rank = row[stays], rank[stays]
            at -= np.arange(len(at))  # one token has gone from each word before
            lengths -= 1
            starts -= np.arange(len(at))
            left, right = at > starts, at + 1 < starts + lengths
            rank[at] = NEVER
            rank[at[right]] = self.rank(row[at[right]], row[at[right] + 1])
            rank[at[left] - 1] = self.rank(row[at[left] - 1], row[at[left]])

        ids: list[bytes] = [b""] * len(words)
        for which, lengths, row in done:
            data = row.astype(dtype).tobytes()
            start = 0
            for k, size in zip(which.tolist(), (lengths * dtype.itemsize).tolist(), strict=True):
                ids[k] = data[start : start + size]
                start += size
        return ids
