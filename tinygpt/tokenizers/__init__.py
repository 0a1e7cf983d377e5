"""Text to token ids and back. README.md is the chapter; char.py is the place to start."""

from __future__ import annotations

import os
from typing import Any

from .bpe import BPE
from .char import Char
from .formats import sentencepiece_bpe_files, sentencepiece_model, tokenizer_json
from .sentencepiece_bpe import SentencePieceBPE, merges_by_score
from .steps.template import Template
from .tokenizer import Tokenizer
from .unigram import Unigram
from .wordpiece import WordPiece

__all__ = [
    "BPE",
    "Char",
    "SentencePieceBPE",
    "Tokenizer",
    "Unigram",
    "WordPiece",
    "from_dict",
    "from_sentencepiece",
    "load",
]

KINDS: dict[str, type[Tokenizer]] = {  # by their model.type
    "BPE": BPE,
    "Unigram": Unigram,
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
    root = tokenizer_json.Field(d, source)
    kind = KINDS[root["model"]["type"].must_be(*KINDS)]
    if kind is BPE and sentencepiece_bpe_files.is_this(root):
        kind = SentencePieceBPE
    return kind.from_dict(d, source)


def from_sentencepiece(file: str | os.PathLike) -> Unigram | SentencePieceBPE:
    """The tokenizer in a SentencePiece .model, Unigram or BPE, with the ids of that package.

    Control and unknown pieces are special tokens; <s> and </s> are the template where there are
    such. ValueError, naming the file and the place, where it is broken or not supported.
    """
    model = sentencepiece_model.read_model(file)
    ids = range(len(model.tokens))
    outside = (sentencepiece_model.UNKNOWN, sentencepiece_model.CONTROL)
    special = {model.tokens[i]: i for i in ids if model.types[i] in outside}
    not_text = frozenset(i for i in ids if model.types[i] != sentencepiece_model.NORMAL)
    unknown = model.types.index(sentencepiece_model.UNKNOWN)
    if model.kind == sentencepiece_model.UNIGRAM:
        return Unigram(
            model.tokens,
            model.scores,
            unknown,
            special,
            byte_fallback=model.byte_fallback,
            sentencepiece=model.normalizer,
            not_text=not_text,
        )
    merges, ranks = merges_by_score(model.tokens, model.scores, {*ids} - not_text)
    return SentencePieceBPE(
        model.tokens,
        merges,
        unknown,
        special,
        ranks=ranks,
        template=Template(("<s>",) if "<s>" in special else ()),
        byte_fallback=model.byte_fallback,
        sentencepiece=model.normalizer,
        not_text=not_text,
    )
