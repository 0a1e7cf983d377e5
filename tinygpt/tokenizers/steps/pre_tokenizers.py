"""Cutting a text at its blanks and writing them as ▁, as a tokenizer.json of SentencePiece's kind
says it under "pre_tokenizer"."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..formats.tokenizer_json import Field

# (text, whether it is the start of what was given to encode) -> words
PreTokenizer = Callable[[str, bool], list[str]]

BLANK = "▁"  # U+2581: how a space is written in a token
STARTS_WITH_BLANK = re.compile(f"{BLANK}[^{BLANK}]*|[^{BLANK}]+")


def read_pre_tokenizer(field: Field) -> PreTokenizer:
    """The function that a pre-tokenizer stands for; null is the whole text as one word."""
    if field.value is None:
        return lambda text, first: [text] if text else []
    kind = field["type"].must_be("Metaspace", "WhitespaceSplit", "Sequence")
    if kind == "Metaspace":
        return metaspace(field)
    if kind == "WhitespaceSplit":
        field.may_have("type")
        return lambda text, first: white_space_split(text)

    field.may_have("type", "pretokenizers")
    steps = [read_pre_tokenizer(step) for step in field["pretokenizers"]]

    def split(text: str, first: bool) -> list[str]:
        words = [text]
        for step in steps:
            words = [part for k, word in enumerate(words) for part in step(word, first and k == 0)]
        return words

    return split


def metaspace(field: Field) -> PreTokenizer:
    """Spaces become ▁, one more stands at the start, and a word starts at each."""
    field.may_have("type", "replacement", "prepend_scheme", "split", "add_prefix_space", "str_rep")
    field["replacement"].must_be(BLANK)
    scheme = field["prepend_scheme"].must_be("always", "first", "never", None)
    if scheme is None or field["add_prefix_space"].value is False:  # as older files have it
        added = field["add_prefix_space"].must_be(True, False, None) is not False
        scheme = "always" if added else "never"
    cut = field["split"].must_be(True, False, None) is not False

    def split(text: str, first: bool) -> list[str]:
        if not text:
            return []
        text = text.replace(" ", BLANK)
        if not text.startswith(BLANK) and (scheme == "always" or (scheme == "first" and first)):
            text = BLANK + text
        return STARTS_WITH_BLANK.findall(text) if cut else [text]

    return split


def white_space_split(text: str) -> list[str]:
    import regex

    return regex.findall(r"\S+", text)
