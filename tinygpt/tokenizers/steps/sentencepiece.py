"""What SentencePiece does to a text before its model: replacements, blanks, ▁."""

from __future__ import annotations

import base64
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .charsmap import Charsmap
from .pre_tokenizers import BLANK


@dataclass(frozen=True)
class SentencePieceNormalizer:
    """text -> text with ▁ for spaces.

    charsmap                   the table of replacements, b"" for none; lossy where there is one
    add_dummy_prefix           a ▁ before the text, so that a word is the same at the start
    remove_extra_whitespaces   no spaces at the ends, one where there were several; lossy
    symbols                    strings that stay as they are, the model's own
    """

    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    symbols: tuple[str, ...] = ()

    def __call__(self, text: str, first: bool = True) -> str:
        if self._table is not None:
            parts = self._symbols.split(text)
            parts[::2] = map(self._table.longest_first, parts[::2])
            text = "".join(parts)
        if self.remove_extra_whitespaces:
            text = re.sub(" +", " ", text.strip(" "))
        if text and self.add_dummy_prefix and first:
            text = " " + text
        return text.replace(" ", BLANK)

    @cached_property
    def _table(self) -> Charsmap | None:
        return Charsmap(self.charsmap) if self.charsmap else None

    @cached_property
    def _symbols(self) -> re.Pattern[str]:
        return any_of(self.symbols)

    def to_json(self) -> dict[str, Any]:
        """The same as steps of a tokenizer.json; only accents written apart may be treated
        otherwise there, see Charsmap.by_cluster."""
        return {
            "normalizer": self._normalizer(),
            "pre_tokenizer": None,
            "decoder": decoder(self.add_dummy_prefix),
        }

    def _normalizer(self) -> dict[str, Any]:
        steps: list[dict[str, Any]] = []
        if self.charsmap:
            table = base64.b64encode(self.charsmap).decode("ascii")
            steps.append({"type": "Precompiled", "precompiled_charsmap": table})
        if self.remove_extra_whitespaces:
            spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
            ends = {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""}
            steps += [spaces, ends]
        if self.add_dummy_prefix:
            steps.append({"type": "Prepend", "prepend": BLANK})
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": BLANK})
        return {"type": "Sequence", "normalizers": steps}


def decoder(add_dummy_prefix: bool) -> dict[str, Any]:
    """The decoder of a tokenizer.json: spaces come back, bytes become characters, and the space
    that was added at the start goes."""
    first_space = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    return {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *([first_space] if add_dummy_prefix else []),
        ],
    }


def any_of(strings: Collection[str]) -> re.Pattern[str]:
    """Finds any of these, the longest where several begin; nothing where there are none."""
    longest_first = sorted(strings, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, longest_first))})" if strings else "(?!)")
