"""Cutting text into words before BPE: no token ever reaches across the edge of a word."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable

import numpy as np

from . import gpt2_words

# From tiktoken's openai_public.py (r50k_base, cl100k_base, o200k_base) and Qwen 2.5's
# tokenizer.json, without possessive quantifiers, which only save time. Llama 3 uses cl100k_base.
# Each takes in every character, so nothing is left between two words.
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
QWEN2 = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
# BERT's words: letters and the like, or one sign (ASCII's, or what Unicode calls punctuation).
# Blanks are dropped. U+166D is a symbol since Unicode 12, but `tokenizers` goes by Unicode 8.
BERT = r"[^\s\p{P}$+<=>^`|~\u166d]+|[\p{P}$+<=>^`|~\u166d]"

NAMED = {"gpt2": GPT2, "gpt4": GPT4, "gpt4o": GPT4O, "qwen2": QWEN2, "none": ""}

# What may be put first because nothing before it in the pattern starts with such a character:
# most words are then found at the first try.
FIRST = {GPT2: r" ?\p{L}+|"}

SECONDS = 10.0  # that a pattern may take for a text, and as long again for every ...
CHARACTERS = 1_000_000  # ... so many characters: a hundred times what a harmless one takes


def split(pattern: str, text: str) -> list[str]:
    """The words of the text: joined, they are the text again.

    pattern: a name in NAMED (none: a text is one word), or a regular expression as the `regex`
    package writes them. A word is a match of it, or what lies between two matches.
    """
    return splitter(pattern)(text)


@functools.cache
def splitter(pattern: str) -> Callable[[str], list[str]]:
    """split(pattern, ...) with everything prepared. ValueError if the pattern is not one."""
    if pattern == "none":
        return whole
    if pattern in NAMED:
        return functools.partial(find_words, NAMED[pattern])
    return functools.partial(split_by_expression, compiled(pattern))


def beginner(pattern: str) -> Callable[[str], np.ndarray]:
    """The function that says, of each character of a text, whether a word begins with it."""
    if pattern == "gpt2":
        return gpt2_words.word_begins
    split = splitter(pattern)

    def word_begins(text: str) -> np.ndarray:
        begins = np.zeros(len(text) + 1, bool)
        begins[np.cumsum([0, *map(len, split(text))])] = True
        return begins[:-1]

    return word_begins


def whole(text: str) -> list[str]:
    return [text] if text else []


def find_words(expression: str, text: str) -> list[str]:
    """All matches of one of our own expressions, one after the other.

    The standard `re` is twice as fast as `regex`, and knows no \\p{L}: it is given the ranges. With
    those above U+FFFF it is slow, so a text that has such characters is left to `regex`.
    """
    if text.isascii():
        return fast(expression, 0x80).findall(text)
    if BEYOND_16_BITS.search(text):
        return compiled(expression).findall(text)
    return fast(expression, 0x10000).findall(text)


def split_by_expression(expression, text: str) -> list[str]:
    """The words by any expression, which may also match nothing, or take forever."""
    words = []
    end = 0
    seconds = SECONDS * (1 + len(text) / CHARACTERS)
    try:
        for match in expression.finditer(text, timeout=seconds):
            start, stop = match.span()
            if end < start:
                words.append(text[end:start])
            if start < stop:
                words.append(text[start:stop])
            end = stop
    except TimeoutError:
        raise ValueError(
            f"pattern={expression.pattern!r} was not done with a text of {len(text)} characters "
            f"after {seconds:g} seconds, the last {len(text) - end} still to go: it tries too many "
            "ways to match; look for a repeat inside a repeat, such as (a+)+"
        ) from None
    if end < len(text):
        words.append(text[end:])
    return words


def cut_of(pattern: str, special_tokens: Iterable[str] = ()):
    """Finds, from the end of a text, a place where a word ends whatever stands before and after.

    None where there is no such expression: for patterns other than ours, and where a special token
    holds such a place.
    """
    import regex

    cut = regex.compile(r"(?r)(?<=\p{L})(?=[\s.,;:!?()，。；：！？、])")
    if pattern not in NAMED or pattern == "none" or any(map(cut.search, special_tokens)):
        return None
    return cut


def cut_at_blank():
    """The same for words that end at every blank, whatever stands around it."""
    import regex

    return regex.compile(r"(?r)(?<=\S)(?=\s)")


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


BEYOND_16_BITS = re.compile("[\U00010000-\U0010ffff]")


@functools.cache
def fast(expression: str, limit: int) -> re.Pattern[str]:
    """One of our own expressions for the standard `re`, for texts of characters below `limit`."""
    expression = FIRST.get(expression, "") + expression
    out = []
    inside = False  # of [...]
    for part in re.findall(r"\\p\{\w+\}|\\.|.", expression):
        if part in "[]":
            inside = part == "["
            out.append(part)
        elif part.startswith(r"\p") or part == r"\s":
            out.append(ranges(part, limit) if inside else f"[{ranges(part, limit)}]")
        elif part == r"\S":
            out.append(rf"[^{ranges(chr(92) + 's', limit)}]")
        else:
            out.append(part)
    return re.compile("".join(out))


@functools.cache
def ranges(which: str, limit: int) -> str:
    """The characters below `limit` that \\p{...} or \\s stands for, to be put between [ and ]."""
    import regex

    characters = "".join(map(chr, range(min(limit, 0xD800))))
    if limit > 0xE000:
        characters += "".join(map(chr, range(0xE000, min(limit, sys.maxunicode + 1))))
    return "".join(
        f"\\u{ord(run[0]):04x}-\\u{ord(run[-1]):04x}"
        for run in regex.findall(f"{which}+", characters)
    )
