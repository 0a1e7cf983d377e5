"""Byte-level byte-pair encoding: start from bytes, and merge the pair that is seen most often.

Sennrich, Haddow & Birch 2016, arXiv:1508.07909, algorithm 1; over bytes instead of characters, so
that no text is unknown, as in Radford et al. 2019 (GPT-2), section 2.2.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import byte_level, tokenizer_json
from .checks import (
    allowed_tokens,
    check_text,
    checked_ids,
    checked_special_tokens,
    id_dtype,
    place,
    texts,
)
from .patterns import compiled, split

Pair = tuple[int, int]

NONE = -1  # no token here: the edge of a word, or a place whose token went into the one before it
CACHE_WORDS = 1 << 16  # words whose ids are remembered, at most this many ...
CACHE_LENGTH = 64  # ... of at most so many characters: some 30 MB when full of long words


class Row:
    """Token ids in a row. Two neighbours become one in constant time, however long the row.

    `before` and `after` hold, for each place in use, the places in use next to it.
    """

    def __init__(self, ids: Iterable[int]):
        self.ids = list(ids)
        self.before = list(range(-1, len(self.ids) - 1))
        self.after = list(range(1, len(self.ids) + 1))

    def pair(self, i: int) -> Pair:
        """The token at place i and the one after it."""
        return self.ids[i], self.ids[self.after[i]]

    def merge(self, i: int, new: int) -> None:
        """Put one token, `new`, where the pair at place i was."""
        gone = self.after[i]
        following = self.after[gone]
        self.ids[i], self.ids[gone] = new, NONE
        self.after[i], self.before[following] = following, i


def learn_merges(words: Mapping[str, int], n_merges: int) -> dict[Pair, int]:
    """{pair: id of the token it becomes}, in the order learned; fewer if the pairs run out.

    words: how often each word occurs. Ids below 256 are bytes, merge k makes token 256 + k.
    The pair to merge is the one with the highest count, of equals the smallest pair of ids, so
    the order of the words does not matter. In "aaa" the left "aa" is merged.

    Each distinct word is looked at once, to count its pairs. After that a merge touches only the
    places where its pair stands: it changes the counts of their neighbours and of nothing else.
    """
    ids = [NONE]
    weights = [0]  # of a place: how often its word occurs
    for word, count in words.items():
        letters = word.encode("utf-8")
        ids += [*letters, NONE]
        weights += [count] * (len(letters) + 1)
    row = Row(ids)

    counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # may hold places it has since left
    for i, pair in enumerate(pairwise(ids)):
        if NONE not in pair:
            counts[pair] += weights[i]
            places[pair].add(i)

    # A heap, the most frequent on top. A count only falls once its pair is in the heap, since new
    # pairs all hold the new token. So an entry whose count is out of date goes back in corrected.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: dict[Pair, int] = {}

    while heap and len(merges) < n_merges:
        count, pair = heapq.heappop(heap)
        if -count != counts[pair]:
            if counts[pair]:
                heapq.heappush(heap, (-counts[pair], pair))
            continue

        new = merges[pair] = 256 + len(merges)
        made = set()
        for i in sorted(places.pop(pair)):
            if row.pair(i) != pair:
                continue
            for at in (row.before[i], i, row.after[i]):  # x a b y: xa, ab and by go,
                counts[row.pair(at)] -= weights[at]  # (those with NONE nobody asks for)
            row.merge(i, new)
            for at in (row.before[i], i):  # and x ab y: x ab and ab y come
                if NONE not in row.pair(at):
                    counts[row.pair(at)] += weights[at]
                    places[row.pair(at)].add(at)
                    made.add(row.pair(at))
        for pair in made:
            if counts[pair]:  # 0: made, and broken up by the next place
                heapq.heappush(heap, (-counts[pair], pair))
    return merges


def apply_merges(ids: Iterable[int], merges: Mapping[Pair, int]) -> list[int]:
    """One word's bytes, as ids, -> its tokens: the earliest merge first, of equals the leftmost.

    The same as going through all merges in the order learned and applying each from left to right.
    """
    row = Row([NONE, *ids, NONE])
    heap = [(merges[pair], i) for i, pair in enumerate(pairwise(row.ids)) if pair in merges]
    heapq.heapify(heap)
    while heap:
        new, i = heapq.heappop(heap)
        if merges.get(row.pair(i)) != new:  # one of the two has been merged with another
            continue
        row.merge(i, new)
        for at in (row.before[i], i):
            if row.pair(at) in merges:
                heapq.heappush(heap, (merges[row.pair(at)], at))
    return [i for i in row.ids if i != NONE]


class BPE:
    """A byte-level BPE tokenizer: BPE.train(text, vocab_size), or tokenizers.load(file).

    tokens           the bytes of each id
    merges           {pair of ids: id of the token it becomes}; of several the lowest id goes first
    pattern          how text is cut into words, see patterns.split
    special_tokens   {string: id}: tokens outside of the text, such as "<|endoftext|>"
    """

    def __init__(
        self,
        tokens: list[bytes],
        merges: dict[Pair, int],
        pattern: str = "gpt2",
        special_tokens: Mapping[str, int] | None = None,
    ):
        compiled(pattern)  # a ValueError now, not in the middle of a text
        self.tokens = tokens
        self.merges = merges
        self.pattern = pattern
        self.special_tokens = dict(special_tokens or {})

        special_ids = set(self.special_tokens.values())
        ids = {token: i for i, token in enumerate(tokens) if i not in special_ids}
        for token in self.special_tokens:
            if byte_level.token_bytes(token) in ids:
                raise ValueError(
                    f"special token {token!r} is also how a tokenizer.json writes an ordinary one; "
                    f"try '<|{token}|>'"
                )
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._special = special_pattern(self.special_tokens)
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        text_or_iterable: str | Iterable[str],
        vocab_size: int,
        pattern: str = "gpt2",
        special_tokens: Collection[str] = (),
    ) -> BPE:
        """Learn vocab_size tokens: the 256 bytes, then the merges, then the special tokens.

        Id b is byte b, ids from 256 on are in the order learned, special tokens come last in the
        order given. No word reaches from one string of an iterable into the next, nor across a
        special token, and special tokens in the text are not learned from. The result depends on
        how often each word occurs, not on the order (see learn_merges).

        pattern: gpt2, gpt4 (cl100k), gpt4o (o200k), none (a text is one word), or any regular
        expression of the `regex` package that matches a word.

        ValueError where vocab_size is below 256 and the special tokens, or more than the text has
        pairs for.
        """
        if not isinstance(vocab_size, int):
            raise TypeError(f"vocab_size must be a whole number, not {vocab_size!r}")
        special_tokens = checked_special_tokens(special_tokens)
        n_merges = vocab_size - 256 - len(special_tokens)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: 256 bytes and {len(special_tokens)} "
                f"special tokens make {256 + len(special_tokens)}"
            )

        words: Counter[str] = Counter()
        cut = special_pattern(special_tokens)
        for text in texts(text_or_iterable):
            for part in cut.split(text)[::2]:
                words.update(split(pattern, part))
        merges = learn_merges(words, n_merges)
        if len(merges) < n_merges:
            largest = vocab_size - n_merges + len(merges)
            raise ValueError(
                f"vocab_size={vocab_size} is more than this text has pairs for: after "
                f"{len(merges)} merges every word is one token; try vocab_size={largest}, "
                "or more text"
            )

        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        specials = {token: len(tokens) + i for i, token in enumerate(special_tokens)}
        tokens += [token.encode("utf-8") for token in special_tokens]
        return cls(tokens, merges, pattern, specials)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        special = f", special_tokens={list(self.special_tokens)}" if self.special_tokens else ""
        return f"BPE(vocab_size={self.vocab_size}, pattern={self.pattern!r}{special})"

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> list[int]:
        """text -> ids, a list.

        allowed_special: the special tokens that may stand in the text, a collection or "all"; each
        becomes its one id. Any other special token in the text is a ValueError, so that text
        from outside cannot put one in.
        """
        check_text(text)
        allowed = allowed_tokens(allowed_special, self.special_tokens)
        ids: list[int] = []
        for k, part in enumerate(self._special.split(text)):  # text, special, text, ..., text
            if k % 2 == 0:
                for word in split(self.pattern, part):
                    ids += self._cache.get(word) or self._encode_word(word)
            elif part in allowed:
                ids.append(self.special_tokens[part])
            else:
                raise self._not_allowed(text, allowed)
        return ids

    def encode_array(self, text: str, allowed_special: Collection[str] = ()) -> np.ndarray:
        """text -> ids (T,), uint16 or, past a vocabulary of 65,536, uint32; see encode."""
        return np.array(self.encode(text, allowed_special), dtype=id_dtype(self.vocab_size))

    def decode(self, ids: ArrayLike, errors: str = "replace") -> str:
        """ids -> text. Ids may break off inside a character, which `errors` is about, as in
        bytes.decode. ValueError where an id is not in the vocabulary."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """ids -> bytes: for any text, decode_bytes(encode(text)) == text.encode("utf-8")."""
        return b"".join([self.tokens[i] for i in checked_ids(ids, self.vocab_size)])

    def save(self, file: str | os.PathLike) -> None:
        """Write a Hugging Face tokenizer.json."""
        tokenizer_json.write(file, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        return byte_level.to_dict(self.tokens, self.merges, self.pattern, self.special_tokens)

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> BPE:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        return cls(*byte_level.from_dict(d, source))

    def _encode_word(self, word: str) -> list[int]:
        letters = [self._byte_ids[byte] for byte in word.encode("utf-8")]
        ids = apply_merges(letters, self.merges)
        if len(word) <= CACHE_LENGTH:
            if len(self._cache) >= CACHE_WORDS:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    def _not_allowed(self, text: str, allowed: set[str]) -> ValueError:
        for match in self._special.finditer(text):
            token = match.group()
            if token not in allowed:
                break
        return ValueError(
            f"the text holds the special token {token!r} at {place(text, match.start())}; to let "
            f'it through as one token, pass allowed_special=[{token!r}] or "all"'
        )


def special_pattern(special_tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the special tokens, the longest where several begin."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    any_of_them = "|".join(re.escape(token) for token in longest_first)
    return re.compile(f"({any_of_them})" if any_of_them else "(?!)")  # (?!) is found nowhere
