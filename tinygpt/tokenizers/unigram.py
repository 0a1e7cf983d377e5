"""Unigram, what T5 and many others use: of all ways to cut a text, the one that is most probable.

Each token has a probability of its own, whatever stands beside it. That of a segmentation is their
product; the best is found by dynamic programming (Viterbi), and others can be drawn, so that a
model sees the same word cut in several ways. Learning is in unigram_train.py.

Kudo 2018, arXiv:1804.10959; as in the SentencePiece package.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from .cache import WordCache
from .checks import check_text, checked_special_tokens
from .formats import unigram_files
from .patterns import cut_at_blank
from .pieces import Pieces
from .steps.pre_tokenizers import BLANK
from .steps.sentencepiece import SentencePieceNormalizer, any_of
from .steps.template import Template
from .unigram_train import learn_pieces
from .words import Source, Split, count_words

UNKNOWN_PENALTY = 10.0  # an unknown character is so much less likely than the rarest token
CLOSE = 0.02  # two paths whose scores differ by less may change places when rounded otherwise
UNKNOWN = -1  # in a path: a character without a token
NOTHING = -2  # the end of a path

Entry = tuple[bytes, list[float], bool]  # of a word: its ids, their scores, whether it was close


class Unigram(Pieces):
    """A Unigram tokenizer: Unigram.train(text, vocab_size), or tokenizers.load(file).

    scores    the logarithm of the probability of each id
    not_text  ids that never stand for text
    and the rest as in Pieces.
    """

    def __init__(
        self,
        tokens: list[str],
        scores: list[float],
        unknown: int | None = 0,
        special_tokens: Mapping[str, int] | None = None,
        *,
        added_tokens: Mapping[str, int] | None = None,
        template: Template | None = None,
        byte_fallback: bool = False,
        steps: dict[str, Any] | None = None,
        sentencepiece: SentencePieceNormalizer | None = None,
        not_text: Collection[int] = (),
        source: str = "tokenizer",
    ):
        self.scores = scores
        self.not_text = frozenset(not_text)
        super().__init__(
            tokens,
            unknown,
            special_tokens,
            added_tokens,
            template,
            byte_fallback,
            steps,
            sentencepiece,
            source,
        )
        usable = [i for i in range(len(tokens)) if i not in self.not_text]
        self._usable = {tokens[i]: i for i in usable}
        lowest = min((scores[i] for i in usable), default=0.0)
        self._single = sentencepiece is not None  # precision, as there
        self._unknown_score = lowest - UNKNOWN_PENALTY
        if self._single:
            self._unknown_score = float(np.float32(self._unknown_score))
        self._longest = max(map(len, self._usable), default=1)
        self._cache: WordCache[Entry] = WordCache(self._encode_word)

    @classmethod
    def train(
        cls,
        text_or_iterable: Source,
        vocab_size: int,
        special_tokens: Collection[str] = (),
        *,
        byte_fallback: bool = True,
        processes: int = 1,
        progress: bool = False,
    ) -> Unigram:
        """Learn vocab_size tokens: <unk>, special tokens, bytes, then pieces of words.

        Text is brought into the Unicode form NFKC, and every run of blanks, line ends too, becomes
        one space: that cannot be undone. The rest comes back, thanks to byte_fallback: a character
        that was not in the text has the tokens of its bytes, and without them is <unk>.

        text_or_iterable: a text, texts, or a pathlib.Path: a file, which may be larger than memory.
        processes: that count words. progress: show bars on the terminal.

        ValueError where vocab_size is too small for the characters, or more than the text has.
        """
        special_tokens = checked_special_tokens(special_tokens)
        before = [*dict.fromkeys(["<unk>", *special_tokens])]
        if byte_fallback:
            before += [f"<0x{byte:02X}>" for byte in range(256)]
        words = count_words(
            text_or_iterable,
            words_around,
            special_tokens,
            cut=cut_at_blank(),
            processes=processes,
            progress=progress,
        )
        for token in special_tokens:
            words.pop(token, None)
        pieces = learn_pieces(words, vocab_size - len(before), len(before), progress)
        lowest = min(score for _, score in pieces)
        return cls(
            before + [piece for piece, _ in pieces],
            [lowest - UNKNOWN_PENALTY] * len(before) + [score for _, score in pieces],
            0,
            {token: i for i, token in enumerate(before) if not token.startswith("<0x")},
            steps=unigram_files.STEPS,
            byte_fallback=byte_fallback,
        )

    def _model_tokens(self) -> list[str]:
        return [token for i, token in enumerate(self.tokens) if i not in self.not_text]

    def _encode_words(self, words: list[str]) -> bytes:
        entries = [self._cache[word] for word in words]
        if self._single and any(close for _, _, close in entries):
            return self._encode_closely(words, entries)
        return b"".join([ids for ids, _, _ in entries])

    def _encode_closely(self, words: list[str], entries: list[Entry]) -> bytes:
        """Where it is close: SentencePiece adds up in single precision from the start of the text,
        and which of two equal paths wins depends on how the sums were rounded."""
        out = []
        total = array("f", [0.0])
        for word, entry in zip(words, entries, strict=True):
            if entry[2]:
                entry = self._encode_word(word, total[0])
            out.append(entry[0])
            for score in entry[1]:
                total[0] += score
        return b"".join(out)

    def _encode_word(self, word: str, before: float = 0.0) -> Entry:
        path, close = self._best_path(word, before)
        scores = [self.scores[i] if i >= 0 else self._unknown_score for _, _, i in path]
        return self._as_bytes(self._ids_of(word, path)), scores, close

    def _ids_of(self, word: str, path: list[tuple[int, int, int]]) -> list[int]:
        """The ids along a path; what is unknown goes together with what is unknown beside it."""
        ids: list[int] = []
        unknown = ""
        for start, end, i in [*path, (len(word), len(word), NOTHING)]:
            if i == UNKNOWN:
                unknown += word[start:end]
            elif unknown:
                ids += self._unknown_ids(unknown)
                unknown = ""
            if i >= 0:
                ids.append(i)
        return ids

    def _best_path(self, word: str, before: float) -> tuple[list[tuple[int, int, int]], bool]:
        """The tokens (start, end, id) of the most probable segmentation, and whether another came
        close to it. Of equals the one whose last token is longest."""
        n = len(word)
        best = array("f" if self._single else "d", [0.0]) * (n + 1)  # "f" rounds what is put there
        best[0] = before
        came_from: list[tuple[int, int] | None] = [None] * (n + 1)
        rounded = array(best.typecode, [0.0])
        close = False
        for start in range(n):
            here = best[start]
            single = False
            for end in range(start + 1, min(n, start + self._longest) + 1):
                token = word[start:end]
                if token in self._usable:
                    i = self._usable[token]
                    rounded[0] = here + self.scores[i]
                    score = rounded[0]
                    if came_from[end] is None or score > best[end]:
                        close = close or (came_from[end] is not None and score < best[end] + CLOSE)
                        best[end] = score
                        came_from[end] = start, i
                    elif score > best[end] - CLOSE:
                        close = True
                    single = single or end == start + 1
            if not single:
                rounded[0] = here + self._unknown_score
                score = rounded[0]
                if came_from[start + 1] is None or score > best[start + 1]:
                    best[start + 1] = score
                    came_from[start + 1] = start, UNKNOWN
        path = []
        end = n
        while end > 0:
            start, i = came_from[end]  # type: ignore[misc]
            path.append((start, end, i))
            end = start
        return path[::-1], close

    def sample(self, text: str, alpha: float = 0.1, rng: Any = 0) -> list[int]:
        """The ids of a segmentation drawn at random, with a probability proportional to that of the
        segmentation to the power of alpha: 0 takes all alike, a large alpha the best.

        rng: an int, a tuple of ints or a numpy Generator. Special tokens are not looked for.
        """
        check_text(text)
        rng = np.random.default_rng(rng)
        ids: list[int] = []
        for word in self._words(text, True):
            ids += self._ids_of(word, self._sampled_path(word, alpha, rng))
        return ids

    def _sampled_path(
        self, word: str, alpha: float, rng: np.random.Generator
    ) -> list[tuple[int, int, int]]:
        """Sum over all ways to reach each place, then go back from the end, drawing each token."""
        n = len(word)
        total = [0.0] + [-np.inf] * n  # log of the sum over all paths that end here
        arrivals: list[list[tuple[float, int, int]]] = [[] for _ in range(n + 1)]
        for start in range(n):
            for end in range(start + 1, min(n, start + self._longest) + 1):
                i = self._usable.get(word[start:end], UNKNOWN)
                if i >= 0 or end == start + 1:
                    score = self.scores[i] if i >= 0 else self._unknown_score
                    arrivals[end].append((total[start] + alpha * score, start, i))
                    total[end] = float(np.logaddexp(total[end], arrivals[end][-1][0]))
        path = []
        end = n
        while end > 0:
            p = np.exp([score - total[end] for score, _, _ in arrivals[end]])
            _, start, i = arrivals[end][rng.choice(len(p), p=p / p.sum())]
            path.append((start, end, i))
            end = start
        return path[::-1]

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        return unigram_files.to_dict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> Unigram:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        return cls(**unigram_files.from_dict(d, source))

    def __reduce__(self):
        """Into another process a tokenizer from a .model goes with SentencePiece's own rules."""
        return rebuilt, (self.to_dict(), self.sentencepiece, self.not_text)


def rebuilt(d: dict[str, Any], sentencepiece, not_text) -> Unigram:
    parts = unigram_files.from_dict(d, "tokenizer")
    return Unigram(**parts | {"sentencepiece": sentencepiece, "not_text": not_text})


def words_around(special_tokens: Collection[str]) -> Split:
    """The function that cuts a text into words, each with ▁ before it, and special tokens."""
    special = any_of(special_tokens)

    def split(text: str) -> list[str]:
        words: list[str] = []
        for k, part in enumerate(special.split(text)):
            if k % 2:
                words.append(part)
            else:
                words += [BLANK + word for word in unicodedata.normalize("NFKC", part).split()]
        return words

    return split
