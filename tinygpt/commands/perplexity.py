"""How well a model predicts a text."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from .command_line import positive
from .model_folder import open_model


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="a folder: a run's best/ or checkpoint/, or one of Hugging Face")
    add("file", help="a text file (UTF-8)")
    add("--stride", type=positive(int), help="how far windows move on (default: half a window)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(options: argparse.Namespace) -> int:
    """Print nats per token, perplexity, bits per byte, and how they were measured."""
    model, tokenizer = open_model(options.model, options.device)
    try:
        text = Path(options.file).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{options.file} is not UTF-8 text: {error}") from None
    ids = tokenizer.encode_array(text, add_special_tokens=True)
    if len(ids) < 2:
        raise ValueError(
            f"{options.file} has {len(ids)} tokens, and two are the least that can be scored"
        )
    block_size = model.config.block_size
    stride = options.stride or max(1, block_size // 2)
    nats = -model.score(ids, stride=stride)

    starts_with_text = len(ids) == len(tokenizer.encode_array(text))
    size = len(text.encode("utf-8"))
    if starts_with_text:  # then the first token is text, and has no score
        size -= len(tokenizer.decode_bytes(ids[:1]))
    first = "the first" if starts_with_text else f"{tokenizer.decode(ids[:1])} at the start"
    bits = nats.sum() / math.log(2)
    print(f"{options.file}: {len(nats):,} tokens, {size:,} bytes")
    print(
        f"{nats.mean():.4f} nats per token, perplexity {math.exp(nats.mean()):.4g}, "
        f"{bits / size:.4f} bits per byte"
    )
    print(
        f"scored: every token but {first}, once, in windows of {block_size} that move on by "
        f"{stride}, so that each is given at least {block_size - stride} tokens before it, or all"
    )
    return 0
