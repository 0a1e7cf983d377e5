"""Train a tokenizer, encode and decode files, see how a text is cut, compare kinds."""

from __future__ import annotations

import argparse
import html
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..tokenizers import BPE, Char, Tokenizer, Unigram, WordPiece, from_sentencepiece, load
from ..tokenizers.checks import checked_ids
from ..tokenizers.patterns import split
from ..tokenizers.words import read_blocks
from .command_line import positive

COLORS = ("#cfe8ff", "#ffe3c2", "#d8f5d0", "#f6d5e8", "#fff6bf", "#e2dcfa")
ANSI = (44, 43, 42, 45, 46, 41)


def add_options(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, run, summary: str):
        sub = actions.add_parser(name, help=summary, description=summary)
        sub.set_defaults(action=run)
        return sub.add_argument

    add = action("train", train, "Learn a vocabulary from a text file, which may be any size.")
    add("text", type=Path, help="a file of UTF-8")
    add("--out", required=True, help="the tokenizer.json to write")
    add("--kind", choices=("bpe", "wordpiece", "unigram", "char"), default="bpe")
    add("--vocab-size", type=positive(int), default=4096, help="not for char (default: 4096)")
    add("--pattern", default="gpt2", help="of bpe: gpt2, gpt4, gpt4o, qwen2, none, or a regex")
    add("--special-token", action="append", default=[], help="may be given several times")
    add("--min-frequency", type=positive(int), help="of bpe and wordpiece")
    add("--processes", type=positive(int), default=1, help="that count words (default: 1)")

    add = action("encode", encode, "A text file to a file of ids, uint16 or uint32, of any size.")
    add("tokenizer", help="a tokenizer.json, or SentencePiece's .model")
    add("text", type=Path, help="a file of UTF-8")
    add("--out", required=True, help="the file of ids to write")
    add("--processes", type=positive(int), default=1)
    add("--allow-special", action="store_true", help="special tokens may stand in the text")

    add = action("decode", decode, "A file of ids, as encode wrote it, back to text.")
    add("tokenizer", help="the tokenizer.json that encoded it")
    add("ids", type=Path)
    add("--out", required=True, help="the text file to write")

    add = action("inspect", inspect, "Show how a text is cut, and for bpe the merges in order.")
    add("tokenizer", help="a tokenizer.json, or SentencePiece's .model")
    add("text", help="the text itself")
    add("--html", help="write a page instead")

    add = action("compare", compare, "Train each kind on a text, and put them side by side.")
    add("text", type=Path, help="a file of UTF-8")
    add("--vocab-size", type=positive(int), default=4096)


def run(options: argparse.Namespace) -> int:
    return options.action(options)


def read_tokenizer(file: str) -> Tokenizer:
    return from_sentencepiece(file) if file.endswith(".model") else load(file)


# ---- train, encode, decode ----------------------------------------------------------------------


def train(options: argparse.Namespace) -> int:
    common = {
        "special_tokens": options.special_token,
        "processes": options.processes,
        "progress": True,
    }
    least = {} if options.min_frequency is None else {"min_frequency": options.min_frequency}
    tokenizer: Tokenizer
    if options.kind == "bpe":
        tokenizer = BPE.train(options.text, options.vocab_size, options.pattern, **common, **least)
    elif options.kind == "wordpiece":
        common["special_tokens"] = options.special_token or ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        tokenizer = WordPiece.train(options.text, options.vocab_size, **common, **least)
    elif options.kind == "unigram":
        tokenizer = Unigram.train(options.text, options.vocab_size, **common)
    else:
        tokenizer = Char.train(options.text)
    tokenizer.save(options.out)
    print(f"{tokenizer!r} -> {options.out}")
    return 0


def encode(options: argparse.Namespace) -> int:
    tokenizer = read_tokenizer(options.tokenizer)
    allowed = "all" if options.allow_special else ()
    count = tokenizer.encode_file(
        options.text, options.out, allowed, processes=options.processes, progress=True
    )
    size = os.path.getsize(options.text)
    print(f"{count} ids of {tokenizer.dtype} for {size} bytes -> {options.out}")
    return 0


def decode(options: argparse.Namespace) -> int:
    tokenizer = read_tokenizer(options.tokenizer)
    if options.ids.stat().st_size % tokenizer.dtype.itemsize:
        raise ValueError(f"{options.ids}: not a whole number of ids of {tokenizer.dtype}")
    data = tokenizer.decode_bytes(np.fromfile(options.ids, tokenizer.dtype))
    Path(options.out).write_bytes(data)
    print(f"{len(data)} bytes -> {options.out}")
    return 0


# ---- inspect ------------------------------------------------------------------------------------


def inspect(options: argparse.Namespace) -> int:
    tokenizer = read_tokenizer(options.tokenizer)
    ids = tokenizer.encode(options.text, allowed_special="all")
    tokens = [shown(tokenizer, i) for i in ids]
    if options.html:
        Path(options.html).write_text(page(tokenizer, options.text, ids, tokens), "utf-8")
        print(f"{len(ids)} tokens -> {options.html}")
        return 0
    print(f"{tokenizer!r}: {len(ids)} tokens")
    if sys.stdout.isatty():
        print("".join(f"\033[30;{ANSI[k % 6]}m{t}\033[0m" for k, t in enumerate(tokens)))
    else:
        print("|".join(tokens))
    print(" ".join(map(str, ids)))
    for line in merge_lines(tokenizer, options.text):
        print(line)
    return 0


def shown(tokenizer: Tokenizer, i: int) -> str:
    """A token as it can be printed: bytes that are no text as \\x.."""
    if isinstance(tokenizer, BPE):
        text = (tokenizer.tokens[i] or b"").decode("utf-8", "backslashreplace")
    elif isinstance(tokenizer, Char):
        text = tokenizer.characters[i]
    else:
        text = tokenizer.tokens[i]  # type: ignore[attr-defined]
    return text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def merge_lines(tokenizer: Tokenizer, text: str) -> list[str]:
    """For BPE: how each different word comes together, merge by merge."""
    if not isinstance(tokenizer, BPE):
        return []
    lines = []
    for word in dict.fromkeys(split(tokenizer.pattern, text)):
        row = tokenizer.byte_ids(word)
        steps = ["|".join(shown(tokenizer, i) for i in row)]
        while True:
            pairs = [pair for pair in zip(row, row[1:], strict=False) if pair in tokenizer.ranks]
            if not pairs:
                break
            pair = min(pairs, key=tokenizer.ranks.__getitem__)
            at = next(k for k in range(len(row)) if (row[k], row[k + 1]) == pair)
            row[at : at + 2] = [tokenizer.merges[pair]]
            steps.append("|".join(shown(tokenizer, i) for i in row))
        lines.append("  ->  ".join(steps))
    return lines


def page(tokenizer: Tokenizer, text: str, ids: list[int], tokens: list[str]) -> str:
    """A small page: every token in a colour, with its id when pointed at; the merges below."""
    spans = "".join(
        f'<span style="background:{COLORS[k % 6]}" title="id {i}">{html.escape(token)}</span>'
        for k, (i, token) in enumerate(zip(ids, tokens, strict=True))
    )
    merges = "".join(f"<li>{html.escape(line)}</li>" for line in merge_lines(tokenizer, text))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Tokens</title>\n'
        "<style>body{font:16px/1.8 monospace;margin:2em;max-width:60em}"
        "p{white-space:pre-wrap}span{padding:2px 1px;border-radius:3px}</style></head>\n"
        f"<body><h1>{html.escape(repr(tokenizer))}</h1><p>{spans}</p>"
        f"<p>{len(ids)} tokens for {len(text.encode('utf-8'))} bytes</p><ol>{merges}</ol>"
        "</body></html>\n"
    )


# ---- compare ------------------------------------------------------------------------------------

COLUMNS = (
    "kind", "unit", "words by", "normalization", "lossless", "vocabulary", "unknown",
    "tokens/word", "bytes/token", "encode MB/s", "train s",
)  # fmt: skip


def compare(options: argparse.Namespace) -> int:
    """Trained on the first nine tenths, measured on the last."""
    text = "".join(read_blocks(options.text))
    cut = len(text) * 9 // 10
    before, after = text[:cut], text[cut:]
    size = options.vocab_size
    kinds = [
        ("char", "character", "-", "none", lambda: Char.train(text)),
        ("bpe gpt2", "byte", "gpt2", "none", lambda: BPE.train(before, size)),
        ("bpe gpt4", "byte", "gpt4", "none", lambda: BPE.train(before, size, "gpt4")),
        ("wordpiece", "character", "blanks, signs", "BERT uncased",
         lambda: WordPiece.train(before, size)),
        ("unigram", "character, byte", "blanks", "NFKC", lambda: Unigram.train(before, size)),
        ("words", "word", "gpt2", "none", lambda: Words(before, size)),
    ]  # fmt: skip
    rows = []
    reasons = []
    for *about, make in kinds:
        started = time.perf_counter()
        try:
            tokenizer = make()
        except ValueError as error:
            reasons.append(f"{about[0]}: {error}")
            continue
        trained = time.perf_counter() - started
        rows.append((*about, *measured(tokenizer, after), f"{trained:.2f}"))
    for row in (COLUMNS, ("---",) * len(COLUMNS), *rows):
        print("| " + " | ".join(map(str, row)) + " |")
    for reason in reasons:
        print(reason)
    return 0


def measured(tokenizer: Any, text: str) -> list[str]:
    """Whether it comes back, the vocabulary, and what the text becomes; speed is that of text whose
    words are new to the tokenizer."""
    started = time.perf_counter()
    ids = tokenizer.encode(text)
    seconds = time.perf_counter() - started
    size = len(text.encode("utf-8"))
    unknown = sum(i == unknown_id(tokenizer) for i in ids)
    return [
        "yes" if tokenizer.decode(ids) == text else "no",
        str(tokenizer.vocab_size),
        f"{unknown / max(1, len(ids)):.2%}",
        f"{len(ids) / max(1, len(text.split())):.2f}",
        f"{size / max(1, len(ids)):.2f}",
        f"{size / seconds / 1e6:.1f}",
    ]


class Words:
    """A vocabulary of the most frequent words, for comparison: whatever else there is, is lost."""

    def __init__(self, text: str, vocab_size: int):
        counts: dict[str, int] = {}
        for word in split("gpt2", text):
            counts[word] = counts.get(word, 0) + 1
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        self.tokens = ["<unk>", *frequent[: vocab_size - 1]]
        self.vocab_size = len(self.tokens)
        self._ids = {word: i for i, word in enumerate(self.tokens)}

    def encode(self, text: str) -> list[int]:
        return [self._ids.get(word, 0) for word in split("gpt2", text)]

    def decode(self, ids: list[int]) -> str:
        return "".join([self.tokens[i] for i in checked_ids(ids, self.vocab_size)])


def unknown_id(tokenizer: Any) -> int:
    """The id of what is unknown; -1 for a kind to which nothing is."""
    if isinstance(tokenizer, WordPiece):
        return tokenizer.special_tokens[tokenizer.unknown]
    return 0 if isinstance(tokenizer, Unigram | Words) else -1
