"""What encodes a text word by word remembers the words: most are seen again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Encoded = TypeVar("Encoded")  # what is remembered of a word: its ids, for most

CACHE_WORDS = 1 << 16  # words whose ids are remembered, at most this many ...
CACHE_LENGTH = 64  # ... of at most so many characters: some 30 MB when full of long words


class WordCache(dict[str, Encoded], Generic[Encoded]):
    """{word: its ids}: cache[word] works it out the first time. At CACHE_WORDS it starts anew."""

    def __init__(self, encode_word: Callable[[str], Encoded]):
        super().__init__()
        self._encode_word = encode_word

    def __missing__(self, word: str) -> Encoded:
        encoded = self._encode_word(word)
        if len(word) <= CACHE_LENGTH:
            if len(self) >= CACHE_WORDS:
                self.clear()
            self[word] = encoded
        return encoded
