"""What all tokenizers share: special tokens, arrays, many texts, whole files, saving.

A kind of tokenizer (bpe.py, wordpiece.py, unigram.py, ...) says how one stretch of text becomes
ids, and how ids become text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .checks import allowed_tokens, check_text, id_dtype, place
from .formats import tokenizer_json
from .processes import in_processes
from .steps.template import Template
from .words import progress_bar, read_blocks


class Tokenizer:
    """The methods of every tokenizer. A subclass has to have:

    vocab_size       one more than the largest id
    special_tokens   {string: id}: tokens outside of the text, such as "<|endoftext|>"
    added_tokens     {string: id}: strings that are one token wherever they stand in a text
    template         what encode(..., add_special_tokens=True) puts around a text
    """

    special_tokens: dict[str, int]
    added_tokens: dict[str, int]
    template: Template

    def _keep(
        self,
        special_tokens: Mapping[str, int] | None,
        added_tokens: Mapping[str, int] | None = None,
        template: Template | None = None,
    ) -> None:
        self.special_tokens = dict(special_tokens or {})
        self.added_tokens = dict(added_tokens or {})
        self.template = template or Template()
        self._outside = self.special_tokens | self.added_tokens
        self._special = special_pattern(self._outside)

    # ---- what a kind has to say -----------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        raise NotImplementedError

    def _encode_part(self, text: str, first: bool) -> bytes:
        """A stretch of text without special tokens -> its ids, as the bytes of an array.

        first: it stands at the start of the text that encode was given.
        """
        raise NotImplementedError

    def decode(self, ids: ArrayLike) -> str:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> Tokenizer:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        raise NotImplementedError

    # ---- what they share ------------------------------------------------------------------------

    def __repr__(self) -> str:
        special = f", special_tokens={list(self.special_tokens)}" if self.special_tokens else ""
        return f"{type(self).__name__}(vocab_size={self.vocab_size}{special})"

    @property
    def dtype(self) -> np.dtype:
        """Of the ids: uint16 or, past a vocabulary of 65,536, uint32."""
        return np.dtype(id_dtype(self.vocab_size))

    def encode(
        self, text: str, allowed_special: Collection[str] = (), add_special_tokens: bool = False
    ) -> list[int]:
        """text -> ids, a list.

        allowed_special: the special tokens that may stand in the text, a collection or "all"; each
        becomes its one id. Any other special token in the text is a ValueError, so that text
        from outside cannot put one in.
        add_special_tokens: put around the ids what the model was trained with, see template.
        """
        return self.encode_array(text, allowed_special, add_special_tokens).tolist()

    def encode_array(
        self, text: str, allowed_special: Collection[str] = (), add_special_tokens: bool = False
    ) -> np.ndarray:
        """text -> ids (T,), uint16 or, past a vocabulary of 65,536, uint32; see encode."""
        check_text(text)
        ids = self._encode(text, allowed_tokens(allowed_special, self.special_tokens), first=True)
        if add_special_tokens:
            before, after = ([self._outside[token] for token in side] for side in self.template[:2])
            ids = bytearray().join([self._as_bytes(before), ids, self._as_bytes(after)])
        return np.frombuffer(ids, dtype=self.dtype)

    def _encode(self, text: str, allowed: set[str], first: bool) -> bytearray:
        """The ids of a text, or of a piece of one, as the bytes of an array."""
        pieces = []
        for k, part in enumerate(self._special.split(text)):  # text, token, text, ..., text
            if k % 2 == 0:
                if part:
                    pieces.append(self._encode_part(part, first and k == 0))
            elif part in allowed or part in self.added_tokens:
                pieces.append(self._as_bytes([self._outside[part]]))
            else:
                raise self._not_allowed(text, allowed)
        return bytearray().join(pieces)

    def encode_batch(
        self,
        texts: Iterable[str],
        allowed_special: Collection[str] = (),
        add_special_tokens: bool = False,
        processes: int = 1,
    ) -> list[np.ndarray]:
        """Many texts -> the array of each, as encode_array makes it, on several processes."""
        how = (allowed_special, add_special_tokens)
        if processes == 1:  # this tokenizer, and the words it remembers
            return [self.encode_array(text, *how) for text in texts]
        return list(in_processes(encoder, (self, *how), texts, processes))

    def encode_file(
        self,
        source: str | os.PathLike,
        target: str | os.PathLike,
        allowed_special: Collection[str] = (),
        processes: int = 1,
        progress: bool = False,
    ) -> int:
        """A file of UTF-8 text -> a file of ids, however large; returns how many ids.

        The target is what encode_array(text).tofile(target) would write, to be read with
        np.fromfile or np.memmap and this tokenizer's dtype. It appears when it is complete.
        """
        allowed = allowed_tokens(allowed_special, self.special_tokens)
        done = 0
        unfinished = Path(f"{os.fspath(target)}.{os.getpid()}.tmp")
        try:
            with (
                open(unfinished, "wb") as f,
                progress_bar(progress, "encoding", Path(source), "B") as bar,
            ):
                pieces = numbered(self._pieces(read_blocks(source)), bar)
                for ids in in_processes(piece_encoder, (self, allowed), pieces, processes):
                    f.write(ids)
                    done += len(ids) // self.dtype.itemsize
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
        return done

    def _pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        """A text in pieces that encode to what the whole encodes to, one after the other."""
        raise NotImplementedError

    def __reduce__(self):
        """How a tokenizer gets into another process."""
        return type(self).from_dict, (self.to_dict(),)

    def save(self, file: str | os.PathLike) -> None:
        """Write a Hugging Face tokenizer.json."""
        tokenizer_json.write(file, self.to_dict())

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """ids -> the UTF-8 bytes of the text."""
        return self.decode(ids).encode("utf-8")

    def _as_bytes(self, ids: Iterable[int]) -> bytes:
        return np.array(list(ids), self.dtype).tobytes()

    def _not_allowed(self, text: str, allowed: set[str]) -> ValueError:
        for match in self._special.finditer(text):
            token = match.group()
            if token in self.special_tokens and token not in allowed:
                break
        return ValueError(
            f"the text holds the special token {token!r} at {place(text, match.start())}; to let "
            f'it through as one token, pass allowed_special=[{token!r}] or "all"'
        )


def special_pattern(special_tokens: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the special tokens, the longest where several begin."""
    longest_first = sorted(special_tokens, key=len, reverse=True)
    any_of_them = "|".join(re.escape(token) for token in longest_first)
    return re.compile(f"({any_of_them})" if any_of_them else "(?!)")  # (?!) is found nowhere


def encoder(tokenizer: Tokenizer, *how) -> Callable[[str], np.ndarray]:
    """What a process does with each text of a batch."""
    return lambda text: tokenizer.encode_array(text, *how)


def piece_encoder(tokenizer: Tokenizer, allowed: set[str]) -> Callable:
    """What a process does with each piece of a file."""
    return lambda piece: tokenizer._encode(piece[1], allowed, first=piece[0] == 0)


def numbered(pieces: Iterable[str], bar) -> Iterator[tuple[int, str]]:
    """0, 1, 2, ... and a piece; the bar moves on by the bytes of each."""
    for k, piece in enumerate(pieces):
        bar.update(len(piece.encode("utf-8")))
        yield k, piece
