"""The simplest tokenizer: every character of the training text is a token."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .checks import check_text, checked_ids, place
from .formats import tokenizer_json
from .tokenizer import Tokenizer
from .words import Source, texts

# How a tokenizer.json says it: every character is a word, and words are joined as they are.
SPLIT = {
    "type": "Split",
    "pattern": {"Regex": r"[\s\S]"},
    "behavior": "Isolated",
    "invert": False,
}
JOIN = {"type": "Fuse"}


class Char(Tokenizer):
    """A vocabulary of characters: the id of a character is its place in `characters`."""

    def __init__(self, characters: str):
        check_text(characters)
        if not characters:
            raise ValueError("a Char tokenizer needs at least one character")
        codes = code_points(characters)
        if len(np.unique(codes)) != len(codes):
            raise ValueError("every character may stand in the vocabulary only once")

        self._keep(special_tokens=None)
        self.characters = characters
        self._ids = np.full(codes.max() + 2, -1, np.int32)  # by code point; -1: not ours
        self._ids[codes] = np.arange(len(codes))

    @classmethod
    def train(cls, text_or_iterable: Source) -> Char:
        """The characters of a text, of many, or of a file given as a pathlib.Path, in the order of
        their code points."""
        seen: set[str] = set()
        for text in texts(text_or_iterable, split=list):
            seen.update(text)
        return cls("".join(sorted(seen)))

    @property
    def vocab_size(self) -> int:
        return len(self.characters)

    def _encode_part(self, text: str, first: bool) -> bytes:
        """ValueError at the first character that is not in the vocabulary."""
        codes = code_points(text)
        ids = self._ids[np.minimum(codes, len(self._ids) - 1)]  # the last entry is always -1
        if ids.size and ids.min() < 0:
            offset = int(ids.argmin())
            raise ValueError(
                f"the character {text[offset]!r} (U+{ord(text[offset]):04X}) at "
                f"{place(text, offset)} is not among the {self.vocab_size} of this vocabulary; "
                "train on text that has it, take it out, or use BPE, which encodes any text"
            )
        return ids.astype(self.dtype).tobytes()

    def _pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        return iter(blocks)

    def decode(self, ids: ArrayLike) -> str:
        """ids -> text. ValueError where an id is not in the vocabulary."""
        return "".join([self.characters[i] for i in checked_ids(ids, self.vocab_size)])

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        vocab = {character: i for i, character in enumerate(self.characters)}
        return tokenizer_json.layout(
            pre_tokenizer=SPLIT,
            decoder=JOIN,
            model={"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},  # unk: not in vocab
        )

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> Char:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        root = tokenizer_json.root(d, source)
        root["pre_tokenizer"].must_be(SPLIT)
        root["normalizer"].must_be(None)
        root["post_processor"].must_be(None)
        root["decoder"].must_be(JOIN)
        if root["added_tokens"].value:
            raise root["added_tokens"].error("is not empty, but Char has no special tokens")

        model = root["model"]
        model.may_have("type", "vocab", "unk_token")
        model["type"].must_be("WordLevel")
        characters = [character or "" for character in model["vocab"].by_id()]
        if not characters:
            raise model["vocab"].error("is empty; a Char tokenizer has at least one character")
        for character in characters:
            if len(character) != 1:
                raise model["vocab"].error(
                    f"has the word {character!r}, but Char wants characters (words: not supported)"
                )
        if model["unk_token"].value in characters:
            raise model["unk_token"].error("is in the vocabulary; unseen characters are an error")
        return cls("".join(characters))


def code_points(text: str) -> np.ndarray:
    """The number of each character, uint32: UTF-32 is four bytes for each and nothing else."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4")
