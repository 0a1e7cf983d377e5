"""WordPiece, what BERT uses: the longest token that a word starts with, then that of the rest.

A token that goes on inside a word is written with ## before it: "unaffable" is un ##aff ##able. A
word that cannot be put together is [UNK], so that text is lost; so are capitals and accents in an
uncased model, and all blanks. Learning is in wordpiece_train.py.

Schuster & Nakajima 2012; Devlin et al. 2018, arXiv:1810.04805; the rules of google-research/bert,
tokenization.py.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from numpy.typing import ArrayLike

from .cache import WordCache
from .checks import checked_ids, checked_special_tokens
from .formats import wordpiece_files
from .patterns import BERT, cut_at_blank, find_words
from .steps.normalizers import BertNormalizer
from .steps.template import Template, bert
from .tokenizer import Tokenizer, special_pattern
from .wordpiece_train import learn_tokens
from .words import Source, Split, count_words, whole_words

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"  # before a token that does not start a word
LONGEST_WORD = 100  # characters; a longer word is [UNK]


class WordPiece(Tokenizer):
    """A WordPiece tokenizer: WordPiece.train(text, vocab_size), or tokenizers.load(file).

    tokens           the string of each id
    special_tokens   {string: id}, among them `unknown`
    normalizer       what happens to a text first: BertNormalizer()
    unknown          the token of a word that the vocabulary cannot write
    longest_word     characters; a longer word is unknown
    cleanup          decode leaves out the space before a full stop and the like
    """

    def __init__(
        self,
        tokens: list[str],
        special_tokens: Mapping[str, int],
        normalizer: BertNormalizer | None = None,
        *,
        added_tokens: Mapping[str, int] | None = None,
        template: Template | None = None,
        unknown: str = "[UNK]",
        longest_word: int = LONGEST_WORD,
        cleanup: bool = True,
    ):
        self._keep(special_tokens, added_tokens, template)
        self.tokens = tokens
        self.normalizer = normalizer or BertNormalizer()
        self.unknown = unknown
        self.longest_word = longest_word
        self.cleanup = cleanup
        self._ids = {token: i for i, token in enumerate(tokens)}
        if unknown not in self._ids:
            raise ValueError(f"the token for unknown words, {unknown!r}, is not in the vocabulary")
        self._longest_token = max(map(len, tokens))
        self._cache = WordCache(self._encode_word)

    @classmethod
    def train(
        cls,
        text_or_iterable: Source,
        vocab_size: int,
        special_tokens: Collection[str] = SPECIAL,
        *,
        lowercase: bool = True,
        min_frequency: int = 2,
        processes: int = 1,
        progress: bool = False,
    ) -> WordPiece:
        """Learn vocab_size tokens: special ones, the characters of the text, then what is merged.

        The next token is the pair for which f(ab) / (f(a) f(b)) is largest, f how often something
        occurs in the text: two that are found together far more often than alone. Of equals the
        smallest pair of ids goes first, so the order of the text does not matter.

        text_or_iterable: a text, texts, or a pathlib.Path: a file, which may be larger than memory.
        lowercase: an uncased model, without capitals and accents.
        min_frequency: of a pair that is merged. The score puts the rarest first, so this decides
        much: on little text 2, on more text more. processes: that count words.
        progress: show bars on the terminal.

        ValueError where vocab_size is too small for the characters, or more than the text has.
        """
        special_tokens = checked_special_tokens(special_tokens)
        if "[UNK]" not in special_tokens:
            raise ValueError("special_tokens must hold '[UNK]', for words that cannot be written")
        normalizer = BertNormalizer(lowercase=lowercase)
        words = count_words(
            text_or_iterable,
            words_around,
            normalizer,
            special_tokens,
            cut=cut_at_blank(),
            processes=processes,
            progress=progress,
        )
        for token in special_tokens:
            words.pop(token, None)
        tokens = learn_tokens(words, vocab_size, special_tokens, INSIDE, min_frequency, progress)
        special = {token: i for i, token in enumerate(special_tokens)}
        template = Template()
        if {"[CLS]", "[SEP]"} <= special.keys():
            template = bert("[CLS]", "[SEP]")
        return cls(tokens, special, normalizer, template=template)

    @classmethod
    def from_vocab(cls, file: str | os.PathLike, lowercase: bool = True) -> WordPiece:
        """BERT's vocab.txt: a token on each line, whose number is the id, counted from 0."""
        tokens = wordpiece_files.read_vocab(file)
        special = {token: i for i, token in enumerate(tokens) if token in SPECIAL}
        template = Template()
        if {"[CLS]", "[SEP]"} <= special.keys():
            template = bert("[CLS]", "[SEP]")
        return cls(tokens, special, BertNormalizer(lowercase=lowercase), template=template)

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    def _encode_part(self, text: str, first: bool) -> bytes:
        words = find_words(BERT, self.normalizer(text))
        return b"".join(map(self._cache.__getitem__, words))

    def _encode_word(self, word: str) -> bytes:
        unknown = self._as_bytes([self._ids[self.unknown]])
        if len(word) > self.longest_word:
            return unknown
        ids = []
        start = 0
        while start < len(word):
            before = INSIDE if start else ""
            for end in range(min(len(word), start + self._longest_token), start, -1):
                if before + word[start:end] in self._ids:
                    break
            else:
                return unknown
            ids.append(self._ids[before + word[start:end]])
            start = end
        return self._as_bytes(ids)

    def decode(self, ids: ArrayLike) -> str:
        """ids -> text: words with a space between them, which is not how they stood in the text."""
        out = []
        for k, i in enumerate(checked_ids(ids, self.vocab_size)):
            token = self.tokens[i]
            if k > 0:
                token = token[2:] if token.startswith(INSIDE) else " " + token
            out.append(clean_up(token) if self.cleanup else token)
        return "".join(out)

    def to_dict(self) -> dict[str, Any]:
        """What save writes: a JSON object that can also stand inside another file."""
        return wordpiece_files.to_dict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any], source: str = "tokenizer") -> WordPiece:
        """The reverse of to_dict. ValueError naming `source` and the field that does not fit."""
        return cls(**wordpiece_files.from_dict(d, source))

    def _pieces(self, blocks: Iterable[str]) -> Iterator[str]:
        return whole_words(
            blocks, words_around(self.normalizer, list(self._outside)), cut_at_blank()
        )


def words_around(normalizer: BertNormalizer, special_tokens: Collection[str]) -> Split:
    """The function that cuts a text into words and special tokens."""
    special = special_pattern(special_tokens)

    def split(text: str) -> list[str]:
        words: list[str] = []
        for k, part in enumerate(special.split(text)):
            words += [part] if k % 2 else find_words(BERT, normalizer(part))
        return words

    return split


# How the peers make a sentence of words: "do n't ." becomes "don't."
JOINED = {" .": ".", " ?": "?", " !": "!", " ,": ",", " ' ": "'", " n't": "n't", " 'm": "'m"} | {
    " do not": " don't", " 's": "'s", " 've": "'ve", " 're": "'re"
}  # fmt: skip


def clean_up(token: str) -> str:
    for apart, together in JOINED.items():
        token = token.replace(apart, together)
    return token
