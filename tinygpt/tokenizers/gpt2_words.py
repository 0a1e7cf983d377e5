"""Where GPT-2's words begin, found in all of a text at once: what patterns.GPT2 says, in arrays.

The expression asks at each word's first character which of its parts fits. But nearly every word
begins where the kind of character changes, and that is one comparison of an array with itself.
"""

from __future__ import annotations

import functools

import numpy as np

LETTER, NUMBER, BLANK, SIGN, END = range(5)
SPACE, APOSTROPHE = ord(" "), ord("'")
PAD = "\0\0\0"  # so that what is looked at after a character is always there


def word_begins(text: str) -> np.ndarray:
    """For each character, whether a word begins with it."""
    T = len(text)
    if text.isascii():
        codes = np.frombuffer((text + PAD).encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer((text + PAD).encode("utf-32-le"), "<u4")
    kind = kinds(codes)
    kind[T:] = END
    begins = np.ones(T + 1, bool)
    begins[1:] = kind[1 : T + 1] != kind[:T]

    # The last of several blanks leaves the others, and if it is a space it goes with what follows.
    last = (kind[:T] == BLANK) & begins[1:] & (kind[1 : T + 1] != END)
    begins[:T] |= last
    begins[1:] &= ~(last & (codes[:T] == SPACE))

    # 's 't 'm 'd 're 've 'll: a word that ends after those letters, and there the next one begins.
    at = np.flatnonzero(begins[:T] & (codes[:T] == APOSTROPHE))
    one, two = codes[at + 1], codes[at + 2]
    for letters in "s", "t", "m", "d", "re", "ve", "ll":
        here = at[(one == ord(letters[0])) & ((len(letters) == 1) | (two == ord(letters[-1])))]
        begins[here + 1] = False
        begins[here + 1 + len(letters)] = True
    return begins[:T]


def kinds(codes: np.ndarray) -> np.ndarray:
    """The kind of each character."""
    if codes.itemsize == 1:
        return kinds_on_page(0)[codes]
    table = np.empty((0x1100, 256), np.uint8)
    there = np.zeros(len(table), bool)
    there[codes >> 8] = True
    for page in np.flatnonzero(there).tolist():
        table[page] = kinds_on_page(page)
    return table.reshape(-1)[codes]


@functools.cache
def kinds_on_page(page: int) -> np.ndarray:
    """The kinds of 256 characters in a row."""
    import regex  # here and not above: `import tinygpt` need not wait for it

    characters = "".join(map(chr, range(page << 8, (page + 1) << 8)))
    kind = np.full(256, SIGN, np.uint8)
    for which, expression in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (BLANK, r"\s+")):
        for run in regex.finditer(expression, characters):
            kind[run.start() : run.end()] = which
    return kind
