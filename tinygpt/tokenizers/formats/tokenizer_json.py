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
    for part in ("truncation", "padding"):
        field[part].must_be(None)
    return field


MOST_IDS = 1 << 24  # so that a damaged id is refused before memory is taken for it

# What an added token may say; of each flag the settings that we have.
ADDED_TOKEN: dict[str, list[Any]] = {
    "single_word": [False],
    "lstrip": [False],
    "rstrip": [False],
}


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

    def by_id(self, outside: dict[str, int] | None = None) -> list[str | None]:
        """{token: id}, with the tokens `outside` of it, as a list of tokens.

        An id stands for one token. Below the last id of the vocabulary none is free; after it, ids
        may be: there the list has None.
        """
        outside = outside or {}
        by_id: dict[int, str] = {}
        for token, i in (self.a(dict) | outside).items():
            if type(i) is not int or not 0 <= i < MOST_IDS:
                raise self.error(f"gives {token!r} the id {short(i)}, not a number from 0 up")
            if i in by_id:
                raise self.error(f"gives the id {i} to both {by_id[i]!r} and {token!r}")
            by_id[i] = token
        last = max((i for token, i in self.value.items() if token not in outside), default=-1)
        for i in range(last):
            if i not in by_id:
                raise self.error(f"has no token with id {i}, but one with id {last}: a gap")
        return [by_id.get(i) for i in range(max(by_id, default=-1) + 1)]


def short(value: Any) -> str:
    """A JSON value, cut to what fits in an error message."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 100 else text[:97] + "..."


def read_added_tokens(
    field: Field, vocab: dict[str, int], normalized: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """The special tokens and the others, {string: id}; a file may have them in `vocab` as well.

    normalized: whether tokens may ask to be looked for in the normalized text, which we do not do:
    True where nothing is normalized, and it makes no difference.
    """
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    for entry in field:
        entry.may_have("id", "content", "normalized", "special", *ADDED_TOKEN)
        for name, supported in ADDED_TOKEN.items():
            entry[name].must_be(*supported)
        entry["normalized"].must_be(*([False, True] if normalized else [False]))
        token, i = entry["content"].a(str), entry["id"].a(int)
        if not token or token in special or token in added:
            raise entry["content"].error(f"is {token!r}: empty, or there before")
        if vocab.get(token, i) != i:
            raise entry["id"].error(f"is {i}, but {token!r} has id {vocab[token]} in model.vocab")
        (special if entry["special"].must_be(True, False) else added)[token] = i
    return special, added


def write_added_tokens(
    special_tokens: dict[str, int], added_tokens: dict[str, int]
) -> list[dict[str, Any]]:
    """The reverse of read_added_tokens."""
    flags = {name: settings[0] for name, settings in ADDED_TOKEN.items()} | {"normalized": False}
    entries = [
        {"id": i, "content": token} | flags | {"special": token in special_tokens}
        for token, i in (special_tokens | added_tokens).items()
    ]
    return sorted(entries, key=lambda entry: entry["id"])


def read_merge(entry: Field, ids: dict[str, int], merges: dict[tuple[int, int], int]) -> None:
    """Put a merge, "a b" or ["a", "b"], after the others as {pair of ids: new id}."""
    parts = entry.value.split(" ") if isinstance(entry.value, str) else entry.a(list)
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise entry.error(f"is {short(entry.value)}, not two tokens")
    for token in (*parts, "".join(parts)):
        if token not in ids:
            raise entry.error(f"needs the token {token!r}, which is not in the vocabulary")
    pair = ids[parts[0]], ids[parts[1]]
    if pair in merges:
        raise entry.error(f"is {parts[0]!r} and {parts[1]!r} a second time")
    merges[pair] = ids["".join(parts)]
