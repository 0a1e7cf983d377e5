"""OpenAI's two formats of byte-level BPE: GPT-2's pair of files, and tiktoken's files of ranks."""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path

from . import byte_level, tokenizer_json
from .tokenizer_json import Field

Pair = tuple[int, int]
END_OF_TEXT = "<|endoftext|>"


def read_gpt2(
    encoder_json: str | os.PathLike, vocab_bpe: str | os.PathLike
) -> tuple[list[bytes | None], dict[Pair, int], str, dict[str, int]]:
    """tokens, merges, pattern, special tokens: what BPE wants.

    encoder.json is {token: id} with each byte as a character. vocab.bpe has a line of comment, and
    then a merge on each line: two tokens with a space between them.
    """
    vocab = Field(tokenizer_json.read(encoder_json), os.fspath(encoder_json))
    special = {t: i for t, i in vocab.a(dict).items() if t == END_OF_TEXT}
    tokens = byte_level.read_tokens(vocab, special)
    ids = {t: i for t, i in vocab.value.items() if t not in special}

    source = os.fspath(vocab_bpe)
    try:
        lines = Path(vocab_bpe).read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not UTF-8 at byte {error.start}: {error.reason}") from None
    if lines[0].startswith("#version"):
        lines[0] = ""
    if lines[-1]:
        raise ValueError(f"{source}: line {len(lines)} has no end; the file may be cut off")
    merges: dict[Pair, int] = {}
    for number, line in enumerate(lines, start=1):
        if line:
            tokenizer_json.read_merge(Field(line, source, f"line {number}"), ids, merges)
    return tokens, merges, "gpt2", special


def read_tiktoken(
    file: str | os.PathLike, special_tokens: dict[str, int]
) -> tuple[list[bytes | None], dict[Pair, int], dict[str, int]]:
    """tokens, merges, special tokens.

    A line is a token in base64, a space and its rank, which is also its id. tiktoken merges two
    neighbours if together they are a token, the lowest rank first, so every way to put a token
    together from two is a merge.
    """
    source = os.fspath(file)
    ids: dict[bytes, int] = {}
    lines = Path(file).read_bytes().split(b"\n")
    if lines[-1]:
        raise ValueError(f"{source}: line {len(lines)} has no end; the file may be cut off")
    for number, line in enumerate(lines, start=1):
        if line:
            token, rank = read_rank(line, f"{source}: line {number}")
            if token in ids:
                raise ValueError(f"{source}: line {number} has {token!r} a second time")
            ids[token] = rank

    for byte in range(256):
        if bytes([byte]) not in ids:
            raise ValueError(f"{source}: has no token for byte {byte}; it may be cut off")
    tokens = place_tokens(ids, special_tokens, source)
    return tokens, merges_of(ids), special_tokens


def merges_of(ids: dict[bytes, int]) -> dict[Pair, int]:
    """{pair of ids: id of both together}, for every two tokens that together are a token."""
    merges = {}
    for token in sorted(ids, key=ids.__getitem__):
        for cut in range(1, len(token)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                merges[left, right] = ids[token]
    return merges


def read_rank(line: bytes, where: str) -> tuple[bytes, int]:
    try:
        written, rank = line.split()
        token = base64.b64decode(written, validate=True)
        if not token or not rank.isdigit():
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError(
            f"{where} is {line[:60]!r}; expected a token in base64, a space and its rank"
        ) from None
    return token, int(rank)


def place_tokens(
    ids: dict[bytes, int], special_tokens: dict[str, int], source: str
) -> list[bytes | None]:
    """The token of each id, None where there is none. Ranks have no gaps, special tokens may."""
    by_id: dict[int, bytes] = {}
    for token, i in ids.items():
        if i >= len(ids):
            raise ValueError(
                f"{source}: the rank of {token!r} is {i}, but {len(ids)} tokens have the ranks 0 "
                f"to {len(ids) - 1}"
            )
        if i in by_id:
            raise ValueError(f"{source}: rank {i} is given to {by_id[i]!r} and to {token!r}")
        by_id[i] = token
    for special, i in special_tokens.items():
        if type(i) is not int or not 0 <= i < tokenizer_json.MOST_IDS:
            raise ValueError(f"special token {special!r} has the id {i!r}; expected 0 or more")
        if i in by_id:
            raise ValueError(f"special token {special!r} has id {i}, which is that of {by_id[i]!r}")
        by_id[i] = special.encode("utf-8")
    return [by_id.get(i) for i in range(max(by_id) + 1)]
