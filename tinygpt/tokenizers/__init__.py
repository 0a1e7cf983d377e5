"""Text to token ids and back. README.md is the chapter; read char.py first, then bpe.py."""

from __future__ import annotations

import os
from typing import Any

from .bpe import BPE
from .char import Char
from .formats import tokenizer_json
from .tokenizer import Tokenizer
from .wordpiece import WordPiece

__all__ = ["BPE", "Char", "Tokenizer", "WordPiece", "from_dict", "load"]

KINDS: dict[str, type[Tokenizer]] = {  # by their model.type
    "BPE": BPE,
    "WordLevel": Char,
    "WordPiece": WordPiece,
}


def load(file: str | os.PathLike) -> Tokenizer:
    """The tokenizer in a Hugging Face tokenizer.json: one that we saved, or another of these kinds.

    ValueError, naming the file and the field, where the file is broken or asks for something that
    we do not do.
    """
    return from_dict(tokenizer_json.read(file), source=os.fspath(file))


def from_dict(d: dict[str, Any], source: str = "tokenizer") -> Tokenizer:
    """The tokenizer whose to_dict() gave d. Errors say that they come from `source`."""
    kind = tokenizer_json.Field(d, source)["model"]["type"]
    return KINDS[kind.must_be(*KINDS)].from_dict(d, source)
