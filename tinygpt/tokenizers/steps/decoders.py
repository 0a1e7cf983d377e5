"""From tokens back to text, as a tokenizer.json says it under "decoder"."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..formats.tokenizer_json import Field
from .normalizers import search
from .pre_tokenizers import BLANK

Decoder = Callable[[list[str]], list[str]]

BYTE = re.compile("<0x([0-9A-F]{2})>")


def read_decoder(field: Field) -> Decoder:
    """A function from tokens to what is to be joined."""
    if field.value is None:  # tokens with a space between them
        return lambda tokens: [" ".join(tokens)]
    kind = field["type"].must_be(*READERS)
    return READERS[kind](field)


def metaspace(field: Field) -> Decoder:
    """▁ becomes a space, but for the one at the start that the pre-tokenizer has added."""
    field.may_have("type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep")
    field["replacement"].must_be(BLANK)
    added = (
        field["prepend_scheme"].must_be("always", "first", "never", None) != "never"
        and field["add_prefix_space"].must_be(True, False, None) is not False
    )

    def decode(tokens: list[str]) -> list[str]:
        out = [token.replace(BLANK, " ") for token in tokens]
        if added and tokens:
            out[0] = tokens[0].replace(BLANK, "")
        return out

    return decode


def replace(field: Field) -> Decoder:
    field.may_have("type", "pattern", "content")
    find = search(field["pattern"])
    content = field["content"].a(str)
    return lambda tokens: [find.sub(lambda _: content, token) for token in tokens]


def byte_fallback(field: Field) -> Decoder:
    """<0xF0> <0x9F> <0x99> <0x82> becomes the character; bytes that are none, one U+FFFD each."""
    field.may_have("type")

    def decode(tokens: list[str]) -> list[str]:
        out = []
        waiting = bytearray()
        for token in [*tokens, ""]:
            byte = BYTE.fullmatch(token)
            if byte:
                waiting.append(int(byte[1], 16))
                continue
            if waiting:
                try:
                    out.append(waiting.decode("utf-8"))
                except UnicodeDecodeError:
                    out.extend("\ufffd" * len(waiting))
                waiting.clear()
            out.append(token)
        return out[:-1]

    return decode


def fuse(field: Field) -> Decoder:
    field.may_have("type")
    return lambda tokens: ["".join(tokens)]


def strip(field: Field) -> Decoder:
    """At most so many of a character go from the start and the end of each."""
    field.may_have("type", "content", "start", "stop")
    content, start, stop = (
        field["content"].a(str),
        field["start"].a(int),
        field["stop"].a(int),
    )
    if len(content) != 1:
        raise field["content"].error("should be one character")

    def decode(tokens: list[str]) -> list[str]:
        out = []
        for token in tokens:
            left = min(start, len(token) - len(token.lstrip(content)))
            right = min(stop, len(token) - len(token.rstrip(content)))
            out.append(token[left : len(token) - right])
        return out

    return decode


def sequence(field: Field) -> Decoder:
    field.may_have("type", "decoders")
    steps = [read_decoder(step) for step in field["decoders"]]

    def decode(tokens: list[str]) -> list[str]:
        for step in steps:
            tokens = step(tokens)
        return tokens

    return decode


READERS: dict[str, Callable[[Field], Decoder]] = {
    "Metaspace": metaspace,
    "Replace": replace,
    "ByteFallback": byte_fallback,
    "Fuse": fuse,
    "Strip": strip,
    "Sequence": sequence,
}
