"""SentencePiece's .model: a protocol buffer, of which only a few fields matter.

A message is a row of fields. Each has a key, number * 8 + kind, and a value: kind 0 is a number in
groups of seven bits, 1 and 5 are eight and four bytes, 2 is a length and so many bytes.
Numbers and meanings are from sentencepiece_model.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..steps.sentencepiece import SentencePieceNormalizer

UNIGRAM, BPE, WORD, CHAR = 1, 2, 3, 4  # trainer_spec.model_type
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # piece.type


class Model(NamedTuple):
    """What a .model says."""

    kind: int
    tokens: list[str]
    scores: list[float]
    types: list[int]
    byte_fallback: bool
    normalizer: SentencePieceNormalizer


def read_model(file: str | os.PathLike) -> Model:
    """ValueError, naming the file and the place, where it is no such file or asks for something
    that we do not do."""
    source = os.fspath(file)
    tokens: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in fields(Path(file).read_bytes(), source):
        if number == 1:
            piece = dict(fields(value, f"{source}: piece {len(tokens)}"))
            token, score, kind = read_piece(piece, f"{source}: piece {len(tokens)}")
            tokens.append(token)
            scores.append(score)
            types.append(kind)
        elif number == 2:
            trainer = dict(fields(value, f"{source}: trainer_spec"))
        elif number == 3:
            normalizer = dict(fields(value, f"{source}: normalizer_spec"))

    if len(set(tokens)) != len(tokens):
        twice = next(token for k, token in enumerate(tokens) if token in tokens[:k])
        raise ValueError(f"{source}: has the piece {twice!r} twice")
    if types.count(UNKNOWN) != 1:
        raise ValueError(f"{source}: has {types.count(UNKNOWN)} unknown pieces, expected 1")
    kind = trainer.get(3, UNIGRAM)
    if kind not in (UNIGRAM, BPE):
        raise ValueError(f"{source}: trainer_spec.model_type is {kind}; supported: 1 (unigram), 2")
    if trainer.get(24, 0):
        raise ValueError(f"{source}: trainer_spec.treat_whitespace_as_suffix is not supported")
    if not normalizer.get(5, 1):
        raise ValueError(f"{source}: normalizer_spec.escape_whitespaces=false is not supported")
    if normalizer.get(6, b""):
        pass  # the rules in words from which the table was made
    byte_fallback = bool(trainer.get(35, 0))
    if byte_fallback and types.count(BYTE) != 256:
        raise ValueError(f"{source}: has {types.count(BYTE)} byte pieces, expected 256")
    try:
        rules = SentencePieceNormalizer(
            charsmap=normalizer.get(2, b""),
            add_dummy_prefix=bool(normalizer.get(3, 1)),
            remove_extra_whitespaces=bool(normalizer.get(4, 1)),
            symbols=tuple(
                token for token, t in zip(tokens, types, strict=True) if t == USER_DEFINED
            ),
        )
        rules("")  # reads the table
    except (ValueError, TypeError) as error:
        raise ValueError(f"{source}: normalizer_spec.precompiled_charsmap {error}") from None
    return Model(kind, tokens, scores, types, byte_fallback, rules)


def read_piece(piece: dict[int, Any], where: str) -> tuple[str, float, int]:
    try:
        token = piece[1].decode("utf-8")
        score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
        kind = piece.get(3, NORMAL)
        if not token or not abs(score) < float("inf") or kind not in range(NORMAL, BYTE + 1):
            raise ValueError
    except (KeyError, ValueError, AttributeError, TypeError, struct.error):
        raise ValueError(f"{where} is not a string, a score and a type: {piece}") from None
    return token, score, kind


def fields(data: bytes, where: str) -> Iterator[tuple[int, Any]]:
    """The fields of a message: (number, an int or the bytes)."""
    at = 0
    while at < len(data):
        start = at
        key, at = varint(data, at, where)
        number, kind = divmod(key, 8)
        value: Any
        if kind == 0:
            value, at = varint(data, at, where)
        elif kind in (1, 2, 5):
            size = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                size, at = varint(data, at, where)
            value = data[at : at + size]
            at += size
        else:
            raise ValueError(f"{where}: not a SentencePiece model: field of kind {kind} at {start}")
        if at > len(data):
            raise ValueError(f"{where}: is cut off inside the field at byte {start}")
        yield number, value


def varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    """A number, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError(f"{where}: is cut off inside a number at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"{where}: not a SentencePiece model: a number of ten bytes at byte {at - 10}")
