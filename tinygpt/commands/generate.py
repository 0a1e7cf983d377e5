"""Let a trained model write."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator

from ..text_stream import text_stream
from .chat import chat_prompt
from .command_line import natural
from .model_folder import open_model, stop_tokens


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", help="a folder: a run's best/ or checkpoint/, or one of Hugging Face")
    add("--prompt", default="\n", help="what to go on from; - reads it from stdin (default: \\n)")
    add("--chat", action="store_true", help="put the prompt into the folder's chat template")
    add("--max-new-tokens", type=natural, default=500)
    add("--temperature", type=float, default=0.8, help="0 takes the likeliest (default: 0.8)")
    add("--top-k", type=int, help="draw from the k likeliest")
    add("--top-p", type=float, help="draw from the fewest that hold this share")
    add("--min-p", type=float, help="draw from those with this share of the likeliest's")
    add("--repetition-penalty", type=float, default=1.0, help="above 1 repeats less (default: 1)")
    add("--stop", action="append", default=[], metavar="STRING", help="end before it; repeatable")
    add("--seed", type=natural, default=0)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")


def run(options: argparse.Namespace) -> int:
    """Print the prompt and what the model makes of it, as it comes; with --chat, the answer."""
    model, tokenizer = open_model(options.model, options.device)
    stop = stop_tokens(options.model)
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not prompt:
        raise ValueError("--prompt is empty; give at least one character to go on from")
    if options.chat:
        ids = tokenizer.encode(chat_prompt(options.model, prompt), allowed_special="all")
    else:
        ids = tokenizer.encode(prompt, add_special_tokens=True)
    steps = model.stream(
        [ids],
        options.max_new_tokens,
        stop=stop or None,
        rng=options.seed,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
    )
    seconds: list[float] = []  # when each token was there

    def tokens() -> Iterator[int]:
        for step in steps:
            seconds.append(time.perf_counter())
            if step[0] in stop:
                return
            yield int(step[0])

    pieces = text_stream(tokens(), tokenizer.decode, ids, options.stop)
    started = time.perf_counter()
    try:
        write("" if options.chat else prompt)
        for piece in pieces:
            write(piece)
        write("\n")
    except BrokenPipeError:  # whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        write("\n")
        raise
    finally:
        if seconds:
            speed = len(seconds) / (seconds[-1] - started)
            print(f"{len(seconds)} tokens, {speed:.1f} tokens/s", file=sys.stderr)
    return 0


def write(text: str) -> None:
    """Now, also into a pipe."""
    sys.stdout.write(text)
    sys.stdout.flush()
