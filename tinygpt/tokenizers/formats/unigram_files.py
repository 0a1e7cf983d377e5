"""How a tokenizer.json writes a Unigram tokenizer: T5's and our own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..steps.pre_tokenizers import BLANK
from ..steps.sentencepiece import decoder
from ..steps.template import read_template, write_template
from . import tokenizer_json
from .tokenizer_json import Field, read_added_tokens, write_added_tokens

if TYPE_CHECKING:
    from ..unigram import Unigram

METASPACE = {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": "always", "split": True}

# What we train: NFKC, one space for every run of blanks, ▁ before every word.
STEPS: dict[str, Any] = {
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFKC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Replace", "pattern": {"Regex": r"\A +| +\z"}, "content": ""},
        ],
    },
    "pre_tokenizer": METASPACE,
    "decoder": decoder(add_dummy_prefix=True),
}


def to_dict(tokenizer: Unigram) -> dict[str, Any]:
    """A Unigram -> the JSON object of its tokenizer.json."""
    outside = tokenizer.special_tokens | tokenizer.added_tokens
    pairs = zip(tokenizer.tokens, tokenizer.scores, strict=True)
    return tokenizer_json.layout(
        added_tokens=write_added_tokens(tokenizer.special_tokens, tokenizer.added_tokens),
        **tokenizer.steps,
        post_processor=write_template(tokenizer.template, outside),
        model={
            "type": "Unigram",
            "unk_id": tokenizer.unknown,
            "vocab": [[token, score] for token, score in pairs],
            "byte_fallback": tokenizer.byte_fallback,
        },
    )


def from_dict(d: dict[str, Any], source: str) -> dict[str, Any]:
    """The reverse of to_dict: what to give to Unigram(...)."""
    root = tokenizer_json.root(d, source)
    model = root["model"]
    model.may_have("type", "unk_id", "vocab", "byte_fallback")
    model["type"].must_be("Unigram")
    tokens: list[str] = []
    scores: list[float] = []
    ids: dict[str, int] = {}
    for entry in model["vocab"]:
        token, score = read_piece(entry)
        if token in ids:
            raise entry.error(f"is {token!r}, which has the id {ids[token]} already")
        ids[token] = len(tokens)
        tokens.append(token)
        scores.append(score)
    if not tokens:
        raise model["vocab"].error("is empty")
    unknown = model["unk_id"].value
    if unknown is not None and not 0 <= model["unk_id"].a(int) < len(tokens):
        raise model["unk_id"].error(f"is {unknown}, but the ids are 0 to {len(tokens) - 1}")

    special, added = read_added_tokens(root["added_tokens"], ids, normalized=False)
    append_added(root["added_tokens"], special | added, tokens)
    scores += [0.0] * (len(tokens) - len(scores))
    return {
        "tokens": tokens,
        "scores": scores,
        "unknown": unknown,
        "special_tokens": special,
        "added_tokens": added,
        "template": read_template(root["post_processor"], special | added),
        "byte_fallback": model["byte_fallback"].must_be(True, False, None) is True,
        "steps": {name: root[name].value for name in STEPS},
        "source": source,
    }


def read_piece(entry: Field) -> tuple[str, float]:
    """["▁the", -3.2]"""
    if len(entry.a(list)) != 2:
        raise entry.error("should be a token and its score")
    token, score = entry
    if type(score.value) not in (int, float) or not abs(score.value) < float("inf"):
        raise score.error(f"is {score.value!r}, not a number")
    return token.a(str), float(score.value)


def append_added(field: Field, outside: dict[str, int], tokens: list[str]) -> None:
    """Put those added tokens that the model does not have after its own, each at its id."""
    for token, i in sorted(outside.items(), key=lambda item: item[1]):
        if i == len(tokens):
            tokens.append(token)
        elif i > len(tokens) or tokens[i] != token:
            raise field.error(f"gives {token!r} the id {i}; expected {len(tokens)}, the next one")
