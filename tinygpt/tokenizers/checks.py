"""What every tokenizer checks about the text and the ids that it is given."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike


def check_text(text: str) -> None:
    """Refuse what is not a str of Unicode characters."""
    if not isinstance(text, str):
        raise TypeError(
            f"expected text as a str, not {type(text).__name__}; "
            'try bytes.decode("utf-8"), or open the file with encoding="utf-8"'
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half of a surrogate pair, U+{ord(text[error.start]):04X}, at "
            f"{place(text, error.start)}: not a character, and UTF-8 cannot hold it; "
            'try text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
        ) from None


def place(text: str, offset: int) -> str:
    """Where in the text that is, for people: offsets count from 0, lines and columns from 1."""
    line = text.count("\n", 0, offset) + 1
    column = offset - text.rfind("\n", 0, offset)
    return f"offset {offset} (line {line}, column {column})"


def allowed_tokens(allowed: Collection[str], special_tokens: Collection[str]) -> set[str]:
    """Which special tokens a call lets through: a collection of them, or "all"."""
    if allowed == "all":
        return set(special_tokens)
    if isinstance(allowed, str):
        raise TypeError(
            'allowed_special must be "all" or a collection of special tokens; '
            f"try allowed_special=[{allowed!r}]"
        )
    unknown = set(allowed) - set(special_tokens)
    if unknown:
        raise ValueError(
            f"allowed_special names {sorted(unknown)}, but the special tokens of this tokenizer "
            f"are {sorted(special_tokens)}"
        )
    return set(allowed)


def checked_ids(ids: ArrayLike, vocab_size: int) -> list[int]:
    """The ids as a list of int, once every one is known to be in the vocabulary."""
    array = np.asarray(ids)
    if array.size == 0:
        return []
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            "ids must be a one-dimensional sequence of integers, "
            f"not {type(ids).__name__} of shape {array.shape} and dtype {array.dtype}"
        )
    outside = (array < 0) | (array >= vocab_size)
    if outside.any():
        i = int(outside.argmax())
        raise ValueError(
            f"id {array[i]} at index {i} is not in this vocabulary, "
            f"whose ids run from 0 to {vocab_size - 1}"
        )
    return array.tolist()


def id_dtype(vocab_size: int) -> type[np.unsignedinteger]:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def checked_special_tokens(special_tokens: Collection[str]) -> list[str]:
    """The special tokens as a list: strings, none of them empty or there twice."""
    if isinstance(special_tokens, str):
        raise TypeError(f"special_tokens must be a collection; try [{special_tokens!r}]")
    tokens = list(special_tokens)
    for token in tokens:
        check_text(token)
    if "" in tokens or len(set(tokens)) < len(tokens):
        raise ValueError(f"a special token is empty or given twice: {tokens}")
    return tokens
