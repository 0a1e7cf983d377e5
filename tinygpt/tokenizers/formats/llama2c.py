"""The tokenizer.bin of karpathy/llama2.c, and how its run.c encodes.

Four bytes for the length of the longest token; then for each token its score, a float32, its
length and its bytes. Ids 0, 1, 2 are <unk>, <s>, </s>, ids 3 to 258 the bytes, <0x00> to <0xFF>.
Spaces are spaces, not ▁. Any two neighbours that together are a token are merged, the highest score
first.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from ..steps.pre_tokenizers import BLANK
from ..steps.sentencepiece import SentencePieceNormalizer
from ..steps.template import Template

FIRST_BYTE = 3


def read(file: str | os.PathLike, vocab_size: int | None = None) -> dict[str, Any]:
    """What to give to SentencePieceBPE(...)."""
    source = os.fspath(file)
    data = Path(file).read_bytes()
    if len(data) < 4:
        raise ValueError(f"{source}: {len(data)} bytes are no tokenizer.bin")
    longest = int.from_bytes(data[:4], "little")
    tokens: list[str] = []
    scores: list[float] = []
    at = 4
    while at < len(data):
        where = f"{source}: token {len(tokens)}, at byte {at},"
        if at + 8 > len(data):
            raise ValueError(f"{where} is cut off")
        score, length = struct.unpack_from("<fi", data, at)
        token = data[at + 8 : at + 8 + length] if length > 0 else b""
        if not 0 < length <= longest or not abs(score) < float("inf"):
            raise ValueError(f"{where} has the score {score} and the length {length}: no token")
        if len(token) < length:
            raise ValueError(f"{where} is cut off")
        try:
            tokens.append(token.decode("utf-8").replace(" ", BLANK))
        except UnicodeDecodeError:
            raise ValueError(f"{where} is {token!r}, which is not UTF-8") from None
        scores.append(score)
        at += 8 + length
    if vocab_size is not None and len(tokens) != vocab_size:
        raise ValueError(f"{source}: has {len(tokens)} tokens, expected vocab_size={vocab_size}")
    return parts(tokens, scores, source)


def parts(tokens: list[str], scores: list[float], source: str) -> dict[str, Any]:
    from ..sentencepiece_bpe import merges_by_score

    # The file has <s> and </s> with a newline before and after.
    tokens = [token.strip("\n") if k < FIRST_BYTE else token for k, token in enumerate(tokens)]
    expected = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    for i, token in enumerate(expected):
        if tokens[i : i + 1] != [token]:
            raise ValueError(f"{source}: token {i} is {tokens[i : i + 1]}, expected {token!r}")
    if len(set(tokens)) != len(tokens):
        twice = next(token for k, token in enumerate(tokens) if token in tokens[:k])
        raise ValueError(f"{source}: has the token {twice!r} twice")
    not_text = frozenset(range(len(expected)))
    merges, ranks = merges_by_score(tokens, scores, {*range(len(tokens))} - not_text)
    return {
        "tokens": tokens,
        "merges": merges,
        "ranks": ranks,
        "unknown": 0,
        "special_tokens": {"<unk>": 0, "<s>": 1, "</s>": 2},
        "template": Template(("<s>",)),
        "byte_fallback": True,
        "sentencepiece": SentencePieceNormalizer(remove_extra_whitespaces=False),
        "not_text": not_text,
    }
