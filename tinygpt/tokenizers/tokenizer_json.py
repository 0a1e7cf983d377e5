"""Reading and writing tokenizer.json, the file of Hugging Face's `tokenizers` package.

Reading is strict: a tokenizer that half understands its file gives wrong ids without a word.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write(file: str | os.PathLike, d: dict[str, Any]) -> None:
    """Write d as JSON in one move: whatever happens, the file is the old one or the new one."""
    path = Path(file)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as f:
            json.dump(d, f, ensure_ascii=False, indent=2)
            f.write("\n")
            f.flush()
            os.fsync(f.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read(file: str | os.PathLike) -> Any:
    """The JSON in a file. ValueError if it is not JSON in UTF-8."""
    try:
        return json.loads(Path(file).read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, brackets without end
        raise ValueError(f"{os.fspath(file)}: not a JSON file in UTF-8: {error}") from None


def layout(**parts: Any) -> dict[str, Any]:
    """A whole tokenizer.json, in the order in which `tokenizers` writes it."""
    empty: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": None,
    }
    return empty | parts


def root(d: Any, source: str) -> Field:
    """The whole of a tokenizer.json; what none of our tokenizers has must be empty."""
    field = Field(d, source)
    field.may_have(*layout())
    for part in ("truncation", "padding", "normalizer"):
        field[part].must_be(None)
    return field


class Field:
    """A value in a JSON file that knows where it stands, so that errors name file and field."""

    def __init__(self, value: Any, source: str, name: str = ""):
        self.value = value
        self.source = source
        self.name = name

    def error(self, problem: str) -> ValueError:
        return ValueError(f"{self.source}: {self.name or 'the file'} {problem}")

    def a(self, kind: type) -> Any:
        """The value, which must be a dict, list, str or int."""
        if type(self.value) is not kind:
            names = {dict: "an object", list: "a list", str: "a string", int: "a whole number"}
            raise self.error(f"should be {names[kind]}, but is {short(self.value)}")
        return self.value

    def __getitem__(self, key: str) -> Field:
        """A field of an object; the same as null where it is missing."""
        return Field(self.a(dict).get(key), self.source, f"{self.name}.{key}".lstrip("."))

    def __iter__(self):
        """The items of a list."""
        for i, value in enumerate(self.a(list)):
            yield Field(value, self.source, f"{self.name}[{i}]")

    def may_have(self, *keys: str) -> None:
        """Refuse an object that has any other key."""
        for key in self.a(dict):
            if key not in keys:
                raise self[key].error("is unknown, so its meaning would be lost: not supported")

    def must_be(self, *supported: Any) -> Any:
        """The value, which must be one of these."""
        if self.value not in supported:
            wanted = " or ".join(short(value) for value in supported)
            raise self.error(f"is {short(self.value)}; supported: {wanted}")
        return self.value

    def by_id(self, extra: dict[str, int] | None = None) -> list[str]:
        """{token: id}, with `extra` tokens, as a list: every id from 0 up must be there once."""
        vocab = self.a(dict) | (extra or {})
        tokens: list[Any] = [None] * len(vocab)
        for token, i in vocab.items():
            if type(i) is not int or not 0 <= i < len(tokens):
                raise self.error(
                    f"gives {token!r} the id {short(i)}, but {len(tokens)} tokens have the ids "
                    f"0 to {len(tokens) - 1} (gaps are not supported)"
                )
            if tokens[i] is not None:
                raise self.error(f"gives the id {i} to both {tokens[i]!r} and {token!r}")
            tokens[i] = token
        return tokens


def short(value: Any) -> str:
    """A JSON value, cut to what fits in an error message."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 100 else text[:97] + "..."
