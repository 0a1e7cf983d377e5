"""SentencePiece's BPE, what Llama and Llama 2 use: merges of characters, not of bytes.

The difference to bpe.py: no pattern cuts the text, a space is the ▁ at the start of a token;
merging starts from characters; one that has no token becomes its bytes, or what is unknown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from .bpe import apply_merges
from .cache import WordCache
from .formats import llama2c, sentencepiece_bpe_files
from .pairs import Pair
from .pieces import Pieces
from .steps.sentencepiece import SentencePieceNormalizer
from .steps.template import Template


class SentencePieceBPE(Pieces):
    """merges    {pair of ids: id of the token it becomes}
    ranks     {pair of ids: which of two merges goes first}; by the order of `merges` if not given
    one_unknown   several unknown characters in a row are one unknown token
    and the rest as in Pieces.
    """

    def __init__(
        self,
        tokens: list[str],
        merges: dict[Pair, int],
        unknown: int | None = 0,
        special_tokens: Mapping[str, int] | None = None,
        *,
        ranks: dict[Pair, int] | None = None,
        added_tokens: Mapping[str, int] | None = None,
        template: Template | None = None,
        byte_fallback: bool = False,
        one_unknown: bool = True,
        steps: dict[str, Any] | None = None,
        sentencepiece: SentencePieceNormalizer | None = None,
        not_text: frozenset[int] = frozenset(),
        source: str = "tokenizer",
    ):
        self.not_text = not_text
        self.one_unknown = one_unknown
        self.merges = merges
        self.ranks = ranks or {pair: k for k, pair in enumerate(merges)}
        super().__init__(
            tokens,
            unknown,
            special_tokens,
            added_tokens,
            template,
            byte_fallback,
            steps,
            sentencepiece,
            source,
        )
        self._letters = {
            token: i for i, token in enumerate(tokens) if len(token) == 1 and i not in not_text
        }
        self._cache = WordCache(self._encode_word)

    @classmethod
    def from_llama2c(cls, file: str | os.PathLike, vocab_size: int | None = None):
        """The tokenizer.bin of karpathy/llama2.c. The file does not say how many tokens it has;
        vocab_size, if given, is checked."""
        return cls(**llama2c.read(file, vocab_size))

    def _model_tokens(self) -> list[str]:
        return [self.tokens[i] for i in {*self.merges.values(), *self._single_letters()}]

    def _single_letters(self) -> list[int]:
        return [i for i, token in enumerate(self.tokens) if len(token) == 1]

    def _encode_words(self, words: list[str]) -> bytes:
        return b"".join(map(self._cache.__getitem__, words))

    def _encode_word(self, word: str) -> bytes:
        """Unknown characters keep their places as ids below 0 until merging is done."""
        row = [self._letters.get(letter, -1 - k) for k, letter in enumerate(word)]
        ids: list[int] = []
        unknown = ""
        for i in [*apply_merges(row, self.merges, self.ranks), None]:
            if i is not None and i < 0:
                if unknown and not self.one_unknown:
                    ids += self._unknown_ids(unknown)
                    unknown = ""
                unknown += word[-1 - i]
                continue
            if unknown:
                ids += self._unknown_ids(unknown)
                unknown = ""
            if i is not None:
                ids.append(i)
        return self._as_bytes(ids)

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        return sentencepiece_bpe_files.to_dict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> SentencePieceBPE:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        return cls(**sentencepiece_bpe_files.from_dict(d, source))

    def __reduce__(self):
        """Into another process a tokenizer from a .model goes with SentencePiece's own rules."""
        more = {
            "ranks": self.ranks,
            "sentencepiece": self.sentencepiece,
            "not_text": self.not_text,
        }
        return rebuilt, (self.to_dict(), more)


def rebuilt(d: dict[str, Any], more: dict[str, Any]) -> SentencePieceBPE:
    return SentencePieceBPE(**sentencepiece_bpe_files.from_dict(d, "tokenizer") | more)


def merges_by_score(
    tokens: list[str], scores: list[float], usable: set[int]
) -> tuple[dict[Pair, int], dict[Pair, int]]:
    """Merges and ranks where the file has scores: any two tokens that together are a token, the one
    with the highest score first."""
    ids = {tokens[i]: i for i in usable}
    order = sorted({scores[i] for i in usable}, reverse=True)
    rank_of = {score: k for k, score in enumerate(order)}
    merges: dict[Pair, int] = {}
    for i in sorted(usable, key=lambda i: (-scores[i], i)):
        token = tokens[i]
        for cut in range(1, len(token)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                merges[left, right] = i
    return merges, {pair: rank_of[scores[i]] for pair, i in merges.items()}
