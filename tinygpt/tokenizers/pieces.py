"""What Unigram and SentencePieceBPE share: tokens of characters, ▁ for a space, bytes for the rest.

Before the model a text is normalized and its spaces become ▁; how, a tokenizer.json says in steps,
or a .model in SentencePiece's own terms. A character without a token becomes its bytes, if the
vocabulary has those, and else the one token for whatever is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import ArrayLike

from .checks import checked_ids
from .formats.tokenizer_json import Field
from .patterns import cut_at_blank
from .steps.decoders import read_decoder
from .steps.normalizers import read_normalizer
from .steps.pre_tokenizers import BLANK, read_pre_tokenizer
from .steps.sentencepiece import SentencePieceNormalizer, any_of
from .steps.template import Template
from .tokenizer import Tokenizer
from .words import whole_words

WORD = re.compile(f"{BLANK}*[^{BLANK}]+|{BLANK}+")


class Pieces(Tokenizer):
    """tokens: the string of each id.   unknown: the id of what has no token, or None.

    byte_fallback    a character without a token becomes the tokens <0x00> to <0xFF> of its bytes
    steps            {"normalizer": ..., "pre_tokenizer": ..., "decoder": ...}, as a
                     tokenizer.json has them
    sentencepiece    where the tokenizer comes from a .model: SentencePiece's own normalization,
                     instead of the steps
    """

    def __init__(
        self,
        tokens: list[str],
        unknown: int | None,
        special_tokens: Mapping[str, int] | None,
        added_tokens: Mapping[str, int] | None,
        template: Template | None,
        byte_fallback: bool,
        steps: dict[str, Any] | None,
        sentencepiece: SentencePieceNormalizer | None,
        source: str = "tokenizer",
    ):
        self._keep(special_tokens, added_tokens, template)
        self.tokens = tokens
        self.unknown = unknown
        self.byte_fallback = byte_fallback
        self.sentencepiece = sentencepiece
        self.steps = steps or (sentencepiece or SentencePieceNormalizer()).to_json()
        root = Field(self.steps, source)
        self._normalize = read_normalizer(root["normalizer"])
        self._split = read_pre_tokenizer(root["pre_tokenizer"])
        self._decoder = read_decoder(root["decoder"])

        self._ids = {token: i for i, token in enumerate(tokens)}
        self._byte_ids: list[int] | None = None
        if byte_fallback:
            self._byte_ids = [self._ids.get(f"<0x{byte:02X}>", -1) for byte in range(256)]
        self._symbols = any_of(sentencepiece.symbols if sentencepiece else ())
        # Words can be looked at one by one if no token goes on into the next one, and none of them
        # starts with what is unknown.
        inner = re.compile(f"[^{BLANK}]{BLANK}")
        self._by_word = BLANK in self._ids and not any(map(inner.search, self._model_tokens()))

    def _model_tokens(self) -> Iterable[str]:
        """The tokens that the model may use for text."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def _words(self, text: str, first: bool) -> list[str]:
        """The normalized text in words, ▁ for spaces."""
        if self.sentencepiece is not None:
            words = [self.sentencepiece(text, first)]
        else:
            words = self._split(self._normalize(text) if self._normalize else text, first)
        if self._by_word:
            return [part for word in words for part in WORD.findall(word)]
        return [word for word in words if word]

    def _encode_part(self, text: str, first: bool) -> bytes:
        out = []
        if self.sentencepiece is None or not self.sentencepiece.symbols:
            return self._encode_words(self._words(text, first))
        for k, part in enumerate(self._symbols.split(self.sentencepiece(text, first))):
            if k % 2:
                out.append(self._as_bytes([self._ids[part]]))
            elif part:
                words = WORD.findall(part) if self._by_word else [part]
                out.append(self._encode_words(words))
        return b"".join(out)

    def _encode_words(self, words: list[str]) -> bytes:
        raise NotImplementedError

    def _unknown_ids(self, text: str) -> list[int]:
        """The ids of characters that have no token, in a row."""
        if self._byte_ids is not None:
            ids = [self._byte_ids[byte] for byte in text.encode("utf-8")]
            if -1 not in ids:
                return ids
        if self.unknown is None:
            raise ValueError(
                f"the vocabulary has neither a token for {text[:20]!r} nor one for what is unknown"
            )
        return [self.unknown]

    def decode(self, ids: ArrayLike) -> str:
        """ids -> text, normalized; bytes that are no character give U+FFFD."""
        known = checked_ids(ids, self.vocab_size)
        return "".join(self._decoder([self.tokens[i] for i in known]))

    def _pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        return whole_words(blocks, str.split, cut_at_blank())
