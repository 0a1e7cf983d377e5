"""Let a trained model write."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..backend import resolve_device
from ..checkpoint import load
from ..gpt import GPT
from ..tokenizers import from_dict
from .command_line import natural


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="a folder with a model: a run's best/ or checkpoint/")
    add("--prompt", default="\n", help="what to go on from (default: a new line)")
    add("--max-new-tokens", type=natural, default=500)
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest (default: 0.8)")
    add("--top-k", type=int)
    add("--top-p", type=float)
    add("--seed", type=natural, default=0)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(options: argparse.Namespace) -> int:
    """Print the prompt and what the model makes of it."""
    best = Path(options.model) / "best"
    if best.is_dir():
        raise ValueError(f"{options.model} is the folder of a run; its best model is in {best}")
    _, meta, _ = load(options.model, groups=())
    if not isinstance(meta.get("tokenizer"), dict):
        raise ValueError(f"{options.model} was saved without a tokenizer, so it cannot read text")
    tokenizer = from_dict(meta["tokenizer"], source=str(options.model))
    model = GPT.load(options.model, device=resolve_device(options.device))
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{options.model} holds a model of {model.config.vocab_size} tokens, and a tokenizer "
            f"of {tokenizer.vocab_size}: they do not belong together"
        )
    prompt = tokenizer.encode(options.prompt)
    if not prompt:
        raise ValueError("--prompt is empty; give at least one character to go on from")
    ids = model.generate(
        [prompt],
        options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        rng=options.seed,
    )
    sys.stdout.write(tokenizer.decode(ids[0]) + "\n")
    return 0
