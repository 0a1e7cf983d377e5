"""Byte-level byte-pair encoding, as GPT-2 and most models after it use it.

bpe_textbook.py says what it does. Here it is fast: a word that was seen before is looked up, a new
one takes a time nearly proportional to its length; bpe_many.py deals with all words of a long text
at once. Learning is in bpe_train.py.
"""

from __future__ import annotations

import heapq
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Any

from numpy.typing import ArrayLike

from .bpe_many import ManyWords, Merger
from .bpe_train import learn_merges
from .cache import WordCache
from .checks import checked_ids, checked_special_tokens
from .formats import byte_level, openai
from .pairs import NONE, Pair
from .patterns import NAMED, beginner, compiled, cut_of, splitter
from .steps.template import Template
from .tokenizer import Tokenizer, special_pattern
from .word_numbers import WordCounter
from .words import Count, Source, Split, count_words, whole_words

LONG = 3000  # characters from which on it is quicker to deal with all words at once
BLOCK = 1 << 20  # characters of a text dealt with at a time
SHORT = 200  # up to here a row is searched, from here on a heap knows the next merge
NEVER = 1 << 62  # the rank of a pair that is not merged


class BPE(Tokenizer):
    """A byte-level BPE tokenizer: BPE.train(text, vocab_size), or tokenizers.load(file).

    tokens           the bytes of each id; None where an id is not in use
    merges           {pair of ids: id of the token it becomes}, the one to make first first
    pattern          how text is cut into words, see patterns.split
    special_tokens   {string: id}: tokens outside of the text, such as "<|endoftext|>"
    added_tokens     {string: id}: strings that are one token wherever they stand in a text
    form             "NFC", "NFKC", "NFD" or "NFKD" where text is brought into that Unicode form
                     first, and decode(encode(text)) is not text but its form
    whole_words      a word that is a token is that token, whatever the merges make of it
    template         what encode(..., add_special_tokens=True) puts around a text
    ranks            {pair of ids: which of two merges goes first}
    ranks_by_id      the merge that makes the lowest id goes first, whatever the order in `merges`
    """

    def __init__(
        self,
        tokens: list[bytes | None],
        merges: dict[Pair, int],
        pattern: str = "gpt2",
        special_tokens: Mapping[str, int] | None = None,
        *,
        added_tokens: Mapping[str, int] | None = None,
        form: str | None = None,
        whole_words: bool = False,
        template: Template | None = None,
        ranks_by_id: bool = False,
    ):
        self._split = splitter(pattern)  # a ValueError now, not in the middle of a text
        self._begins = beginner(pattern)
        self._keep(special_tokens, added_tokens, template)
        self.tokens = tokens
        self.merges = merges
        self.pattern = pattern
        self.form = form
        self.whole_words = whole_words

        outside = set(self._outside.values())
        ids = {token: i for i, token in enumerate(tokens) if token and i not in outside}
        for token in self._outside:
            if byte_level.token_bytes(token) in ids:
                raise ValueError(
                    f"special token {token!r} is also how a tokenizer.json writes an ordinary one; "
                    f"try '<|{token}|>'"
                )
        self._ids = ids
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self.ranks = merges if ranks_by_id else ranks_of(merges)
        self._cache = WordCache(self._encode_word)

    @classmethod
    def train(
        cls,
        text_or_iterable: Source,
        vocab_size: int,
        pattern: str = "gpt2",
        special_tokens: Collection[str] = (),
        *,
        min_frequency: int = 1,
        processes: int = 1,
        progress: bool = False,
    ) -> BPE:
        """Learn vocab_size tokens: the 256 bytes, then the merges, then the special tokens.

        Id b is byte b, ids from 256 on are in the order learned, special tokens come last in the
        order given. No word reaches from one string of an iterable into the next, nor across a
        special token, and special tokens in the text are not learned from. The result depends on
        how often each word occurs, not on the order (see learn_merges).

        text_or_iterable: a text, texts, or a pathlib.Path: a file, which may be larger than memory.
        pattern: gpt2, gpt4 (cl100k), gpt4o (o200k), qwen2, none (a text is one word), or any
        regular expression of the `regex` package that matches a word.
        min_frequency: pairs seen less often are left alone, and the vocabulary may be smaller.
        processes: that count words. progress: show bars on the terminal.

        ValueError where vocab_size is below 256 and the special tokens, or more than the text has
        pairs for, or where the pattern finds not one word in the text.
        """
        if not isinstance(vocab_size, int):
            raise TypeError(f"vocab_size must be a whole number, not {vocab_size!r}")
        special_tokens = checked_special_tokens(special_tokens)
        n_merges = vocab_size - 256 - len(special_tokens)
        if n_merges < 0:
            raise ValueError(
                f"vocab_size={vocab_size} is too small: 256 bytes and {len(special_tokens)} "
                f"special tokens make {256 + len(special_tokens)}"
            )
        if min_frequency < 1:
            raise ValueError(f"min_frequency={min_frequency}: expected at least 1")

        words = count_words(
            text_or_iterable,
            words_around,
            pattern,
            special_tokens,
            cut=cut_of(pattern, special_tokens),
            make_count=counts_around,
            processes=processes,
            progress=progress,
        )
        check_pattern(pattern, words)
        merges = learn_merges(words, n_merges, min_frequency, progress)
        if len(merges) < n_merges and min_frequency == 1:
            largest = vocab_size - n_merges + len(merges)
            raise ValueError(
                f"vocab_size={vocab_size} is more than this text has pairs for: after "
                f"{len(merges)} merges every word is one token; try vocab_size={largest}, "
                "or more text"
            )

        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        specials = {token: len(tokens) + i for i, token in enumerate(special_tokens)}
        tokens += [token.encode("utf-8") for token in special_tokens]
        return cls([*tokens], merges, pattern, specials)

    @classmethod
    def from_gpt2(cls, encoder_json: str | os.PathLike, vocab_bpe: str | os.PathLike) -> BPE:
        """GPT-2's two files: tokens with their ids, and merges. <|endoftext|> is special."""
        return cls(*openai.read_gpt2(encoder_json, vocab_bpe))

    @classmethod
    def from_tiktoken(
        cls, file: str | os.PathLike, pattern: str, special_tokens: Mapping[str, int] | None = None
    ) -> BPE:
        """A file of ranks as the `tiktoken` package has them; pattern and special tokens are not in
        the file."""
        tokens, merges, specials = openai.read_tiktoken(file, dict(special_tokens or {}))
        return cls(tokens, merges, pattern, specials, whole_words=True, ranks_by_id=True)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        special = f", special_tokens={list(self.special_tokens)}" if self.special_tokens else ""
        return f"BPE(vocab_size={self.vocab_size}, pattern={self.pattern!r}{special})"

    def _encode_part(self, text: str, first: bool) -> bytes:
        if self.form is not None:
            text = unicodedata.normalize(self.form, text)  # type: ignore[arg-type]
        if len(text) < LONG:
            return b"".join(map(self._cache.__getitem__, self._split(text)))
        blocks = self._blocks(text)
        return b"".join([self._many.encode(block, self._begins(block)) for block in blocks])

    def _blocks(self, text: str) -> Iterable[str]:
        """The text in pieces, with no word cut in two."""
        cut = cut_of(self.pattern)
        if cut is None or len(text) <= BLOCK:
            return [text]
        pieces = (text[k : k + BLOCK] for k in range(0, len(text), BLOCK))
        return whole_words(pieces, self._split, cut)

    @cached_property
    def _many(self) -> ManyWords:
        """Made for the first long text."""
        return ManyWords(
            list(self._ids),
            self._ids if self.whole_words else {},
            Merger(self.merges, self.ranks, self._byte_ids),
            self._encode_letters,
            self.dtype,
        )

    def _encode_word(self, word: str) -> bytes:
        return self._encode_letters(word.encode("utf-8"))

    def _encode_letters(self, letters: bytes) -> bytes:
        if self.whole_words and letters in self._ids:
            return self._as_bytes([self._ids[letters]])
        ids = [self._byte_ids[byte] for byte in letters]
        return self._as_bytes(apply_merges(ids, self.merges, self.ranks))

    def byte_ids(self, word: str) -> list[int]:
        """The ids of a word's bytes, before any merge."""
        return [self._byte_ids[byte] for byte in word.encode("utf-8")]

    def decode(self, ids: ArrayLike, errors: str = "replace") -> str:
        """ids -> text. Ids may break off inside a character, which `errors` is about, as in
        bytes.decode. ValueError where an id is not in the vocabulary."""
        return self.decode_bytes(ids).decode("utf-8", errors)

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """ids -> bytes: for any text, decode_bytes(encode(text)) == text.encode("utf-8")."""
        known = checked_ids(ids, self.vocab_size)
        try:
            return b"".join([self.tokens[i] for i in known])  # type: ignore[misc]
        except TypeError:
            gap = next(i for i in known if self.tokens[i] is None)
            raise ValueError(f"id {gap} is not in use in this vocabulary") from None

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        return byte_level.to_dict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> BPE:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        return cls(**byte_level.from_dict(d, source))

    def _pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        split = words_around(self.pattern, list(self._outside))
        return whole_words(blocks, split, cut_of(self.pattern, self._outside))


def words_around(pattern: str, special_tokens: Collection[str]) -> Split:
    """The function that cuts a text into words and special tokens."""
    split = splitter(pattern)
    if not special_tokens:
        return split
    special = special_pattern(special_tokens)

    def split_around(text: str) -> list[str]:
        words: list[str] = []
        for k, part in enumerate(special.split(text)):
            words += [part] if k % 2 else split(part)
        return words

    return split_around


def counts_around(pattern: str, special_tokens: Collection[str]) -> Count:
    """The function that counts the words of a text between special tokens."""
    split, begins_of = splitter(pattern), beginner(pattern)
    special = special_pattern(special_tokens)
    counter = WordCounter()

    def count(text: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        for part in special.split(text)[::2]:
            if len(part) < LONG:
                counts.update(split(part))
            else:
                counts.update(counter.count(part, begins_of(part)))
        return counts

    return count


def apply_merges(
    ids: list[int], merges: Mapping[Pair, int], ranks: Mapping[Pair, int]
) -> list[int]:
    """One word's bytes, as ids, -> its tokens: the lowest rank first, of equals the leftmost.

    The same as going through all merges from the lowest rank and making each from left to right.
    `ids` is used up.
    """
    if len(ids) > SHORT:
        return apply_merges_to_many(ids, merges, ranks)
    next_ranks = [ranks.get(pair, NEVER) for pair in pairwise(ids)]
    while next_ranks:
        rank = min(next_ranks)
        if rank == NEVER:
            break
        i = next_ranks.index(rank)
        ids[i] = merges[ids[i], ids[i + 1]]
        del ids[i + 1], next_ranks[i]
        if i > 0:
            next_ranks[i - 1] = ranks.get((ids[i - 1], ids[i]), NEVER)
        if i < len(next_ranks):
            next_ranks[i] = ranks.get((ids[i], ids[i + 1]), NEVER)
    return ids


def apply_merges_to_many(
    ids: list[int], merges: Mapping[Pair, int], ranks: Mapping[Pair, int]
) -> list[int]:
    """The same for a long row: a heap of what can be merged, and for each place its neighbours."""
    row = [*ids, NONE]
    before = list(range(-1, len(row) - 1))
    after = list(range(1, len(row) + 1))
    heap = [(ranks[pair], i) for i, pair in enumerate(pairwise(row)) if pair in ranks]
    heapq.heapify(heap)
    while heap:
        rank, i = heapq.heappop(heap)
        if row[i] == NONE:
            continue  # this place has gone into the one before it
        right = after[i]
        pair = row[i], row[right]
        if ranks.get(pair) != rank:
            continue  # one of the two has been merged with another
        row[i], row[right] = merges[pair], NONE
        after[i] = following = after[right]
        if following < len(row):
            before[following] = i
        for left, right in ((before[i], i), (i, following)):
            if left >= 0 and (pair := (row[left], row[right])) in ranks:
                heapq.heappush(heap, (ranks[pair], left))
    return [i for i in row if i != NONE]


def ranks_of(merges: dict[Pair, int]) -> dict[Pair, int]:
    """{pair: which of two merges goes first}, by their order. Where every merge makes a higher id
    than the one before, the ids say that already."""
    made = list(merges.values())
    if all(a < b for a, b in pairwise(made)):
        return merges
    return {pair: k for k, pair in enumerate(merges)}


def check_pattern(pattern: str, words: Collection[str]) -> None:
    """Refuse a pattern of the user's own that has found nothing in the text."""
    if pattern in NAMED or not words:
        return
    find = compiled(pattern)
    if not any(match.group() for word in words for match in find.finditer(word)):
        raise ValueError(
            f"pattern={pattern!r} matches nothing in this text, so that all of it would be one "
            "word; if that is wanted, pass pattern='none'"
        )
