"""Cutting text into words before BPE: no token ever reaches across the edge of a word."""

from __future__ import annotations

import functools

# From tiktoken's openai_public.py: r50k_base, cl100k_base and o200k_base, without the possessive
# quantifiers there, which only save time. Each takes in every character, so nothing is left over.
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMED = {"gpt2": GPT2, "gpt4": GPT4, "gpt4o": GPT4O, "none": ""}  # none: the text is one word


def split(pattern: str, text: str) -> list[str]:
    """The words of the text: joined, they are the text again.

    pattern: a name in NAMED, or a regular expression as the `regex` package writes them. A word is
    a match of it, or what lies between two matches.
    """
    if pattern == "none":
        return [text] if text else []
    words = []
    end = 0
    for match in compiled(pattern).finditer(text):
        start, stop = match.span()
        if end < start:
            words.append(text[end:start])
        if start < stop:
            words.append(text[start:stop])
        end = stop
    if end < len(text):
        words.append(text[end:])
    return words


@functools.cache
def compiled(pattern: str):
    """The compiled expression of a pattern; ValueError if it is none."""
    import regex  # here and not above: `import tinygpt` need not wait for it

    if (pattern.isidentifier() and pattern not in NAMED) or not pattern:
        raise ValueError(
            f"pattern={pattern!r} is none of {', '.join(NAMED)}, nor a regular expression that "
            "could split text"
        )
    try:
        return regex.compile(NAMED.get(pattern, pattern))
    except regex.error as error:
        raise ValueError(f"pattern={pattern!r} is not a regular expression: {error}") from None
