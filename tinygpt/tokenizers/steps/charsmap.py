"""SentencePiece's table of replacements: characters to find, and what to write instead.

It comes as bytes: the length of a trie, the trie, and the replacements with a NUL after each. The
trie is Darts' double array (Yata 2008, darts-clone): a cell of 32 bits is reached by a byte, from
the cell before it, by xor with that byte.
"""

from __future__ import annotations

import base64
import binascii

from ..formats.tokenizer_json import Field


class Charsmap:
    """The table of replacements, and two ways in which it is used."""

    def __init__(self, blob: bytes):
        """ValueError where the bytes are not such a table."""
        size = int.from_bytes(blob[:4], "little")
        if len(blob) < 4 or size % 4 or size > len(blob) - 4 or not size:
            raise ValueError("is cut off or damaged: its trie is longer than the whole")
        self._cells = memoryview(blob)[4 : 4 + size].cast("I")
        self._replacements = blob[4 + size :]
        self.blob = blob
        # Most English can be left alone: no printable ASCII is replaced.
        self._ascii_stays = not any(self._entries(bytes([byte])) for byte in range(0x20, 0x7F))

    def _entries(self, key: bytes) -> list[tuple[int, str]]:
        """The entries that `key` starts with, from short to long: how many bytes, and what to write
        instead."""
        cells = self._cells
        found = []
        place = offset(cells[0])
        for length, byte in enumerate(key, start=1):
            place ^= byte
            if byte == 0 or place >= len(cells):
                break
            cell = cells[place]
            if cell & 0x800000FF != byte:  # another byte's cell
                break
            place ^= offset(cell)
            if cell >> 8 & 1 and place < len(cells):  # an entry ends here
                start = cells[place] & 0x7FFFFFFF
                end = self._replacements.find(b"\0", start)
                found.append((length, self._replacements[start:end].decode("utf-8", "replace")))
        return found

    def longest_first(self, text: str) -> str:
        """Replace from left to right, the longest entry first, as SentencePiece does."""
        if text.isascii() and text.isprintable() and self._ascii_stays:
            return text
        data = text.encode("utf-8")
        out = []
        at = 0
        while at < len(data):
            entries = self._entries(data[at : at + LONGEST])
            if not entries:
                length = 1
                while at + length < len(data) and data[at + length] & 0xC0 == 0x80:
                    length += 1
                out.append(data[at : at + length].decode("utf-8"))
            else:
                length, replacement = entries[-1]
                out.append(replacement)
            at += length
        return "".join(out)

    def by_cluster(self, text: str) -> str:
        """Replace as the `tokenizers` package does: a cluster of characters (a letter and its
        accents) of at most five bytes by the shortest entry that it starts with, and where there is
        none, each character by its own."""
        if text.isascii() and text.isprintable() and self._ascii_stays:
            return text
        import regex

        out = []
        for cluster in regex.findall(r"\X", text):
            data = cluster.encode("utf-8")
            if len(data) <= 5 and (entries := self._entries(data)):
                out.append(entries[0][1])
                continue
            for character in cluster:
                entries = self._entries(character.encode("utf-8"))
                out.append(entries[0][1] if entries else character)
        return "".join(out)


LONGEST = 64  # bytes; entries are a few characters long


def offset(cell: int) -> int:
    """Where the cells after this one are: 21 bits, or 29 with 8 zeros below."""
    return (cell >> 10) << ((cell & 0x200) >> 6)


def read_charsmap(field: Field) -> Charsmap:
    """From a tokenizer.json, in base64."""
    try:
        return Charsmap(base64.b64decode(field.a(str), validate=True))
    except (binascii.Error, ValueError) as error:
        raise field.error(f"{error}") from None
