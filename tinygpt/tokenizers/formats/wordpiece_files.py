"""How BERT's vocab.txt and a tokenizer.json write a WordPiece tokenizer."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..steps.normalizers import bert
from ..steps.template import read_template, write_template
from . import tokenizer_json
from .tokenizer_json import read_added_tokens, write_added_tokens

if TYPE_CHECKING:
    from ..wordpiece import WordPiece


def read_vocab(file: str | os.PathLike) -> list[str]:
    """The tokens of a vocab.txt, one on each line."""
    source = os.fspath(file)
    try:
        lines = Path(file).read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 at byte {error.start}: {error.reason}") from None
    if lines[-1]:
        raise ValueError(f"{source}: line {len(lines)} has no end; the file may be cut off")
    tokens = [line.rstrip("\r") for line in lines[:-1]]
    seen: dict[str, int] = {}
    for number, token in enumerate(tokens, start=1):
        if not token or token in seen:
            raise ValueError(
                f"{source}: line {number} is "
                + (f"{token!r}, which is on line {seen[token]} too" if token else "empty")
            )
        seen[token] = number
    if "[UNK]" not in seen:
        raise ValueError(f"{source}: has no [UNK], for words that the vocabulary cannot write")
    return tokens


def to_dict(tokenizer: WordPiece) -> dict[str, Any]:
    """A WordPiece -> the JSON object of its tokenizer.json."""
    outside = tokenizer.special_tokens | tokenizer.added_tokens
    return tokenizer_json.layout(
        added_tokens=write_added_tokens(tokenizer.special_tokens, tokenizer.added_tokens),
        normalizer={"type": "BertNormalizer"} | dataclasses.asdict(tokenizer.normalizer),
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=write_template(tokenizer.template, outside),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": tokenizer.cleanup},
        model={
            "type": "WordPiece",
            "unk_token": tokenizer.unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": tokenizer.longest_word,
            "vocab": {token: i for i, token in enumerate(tokenizer.tokens)},
        },
    )


def from_dict(d: dict[str, Any], source: str) -> dict[str, Any]:
    """The reverse of to_dict: what to give to WordPiece(...)."""
    root = tokenizer_json.root(d, source)
    normalizer = bert(root["normalizer"])
    root["pre_tokenizer"].may_have("type")
    root["pre_tokenizer"]["type"].must_be("BertPreTokenizer")
    decoder = root["decoder"]
    decoder.may_have("type", "prefix", "cleanup")
    decoder["type"].must_be("WordPiece")
    decoder["prefix"].must_be("##")

    model = root["model"]
    model.may_have(
        "type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"
    )
    model["type"].must_be("WordPiece")
    model["continuing_subword_prefix"].must_be("##")
    vocab = model["vocab"].a(dict)
    special, added = read_added_tokens(root["added_tokens"], vocab, normalized=False)
    outside = special | added
    tokens = model["vocab"].by_id(outside)
    if None in tokens:
        raise root["added_tokens"].error(f"leaves the id {tokens.index(None)} free: not supported")
    unknown = model["unk_token"].a(str)
    if unknown not in vocab:
        raise model["unk_token"].error(f"is {unknown!r}, which is not in model.vocab")
    longest_word = model["max_input_chars_per_word"].a(int)
    if longest_word < 1:
        raise model["max_input_chars_per_word"].error(f"is {longest_word}; expected at least 1")
    return {
        "tokens": tokens,
        "special_tokens": special,
        "normalizer": normalizer,
        "added_tokens": added,
        "template": read_template(root["post_processor"], outside),
        "unknown": unknown,
        "longest_word": longest_word,
        "cleanup": decoder["cleanup"].must_be(True, False),
    }
