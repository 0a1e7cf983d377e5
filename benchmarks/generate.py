"""Generation, token after token, beside transformers' with its cache, on this machine.

    python benchmarks/generate.py                                  # GPT-2 124M, one sequence
    python benchmarks/generate.py --sampling temperature=0.8 top_p=0.9 --prompt-tokens 512
    python benchmarks/generate.py --batch-size 8 --rounds 5 --json out.json

Each contestant is a process of its own; they take turns, A B C, C B A, ..., a text each, so that a
machine that slows down slows all of them. A text is --tokens after a prompt of --prompt-tokens, and
its seconds are those of all of it, prompt and sampling included. Weights are random and the same
for both, and at temperature 0 both have to write the same.

"matrix-vector" is the floor: `x @ W` in plain NumPy with every matrix of the model, once per token.
All of its 0.5 GB pass through the processor for each token, so that is what sets the pace.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygpt import GPT, GPTConfig
from tinygpt.backend import threads

CONFIGS = {"gpt2": GPTConfig(), "small": GPTConfig(65, 256, n_layer=6, n_head=6, n_embd=384)}


def prompts(config: GPTConfig, options: argparse.Namespace) -> np.ndarray:
    shape = (options.batch_size, options.prompt_tokens)
    return np.random.default_rng(1).integers(0, config.vocab_size, shape)


def tinygpt_writer(config: GPTConfig, options: argparse.Namespace) -> Callable[[], np.ndarray]:
    model = GPT(config)
    ids = prompts(config, options)
    return lambda: model.generate(ids, options.tokens, **options.sampling)


def transformers_writer(config: GPTConfig, options: argparse.Namespace) -> Callable[[], np.ndarray]:
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.set_num_threads(threads())
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    ours = GPT(config)
    named = {f"transformer.{name}": torch.from_numpy(a) for name, a in ours.state_dict().items()}
    theirs.load_state_dict(named | {"lm_head.weight": named["transformer.wte.weight"]})
    ids = torch.from_numpy(prompts(config, options))
    choice = {"do_sample": options.sampling["temperature"] > 0, **options.sampling}
    if not choice["do_sample"]:
        del choice["temperature"]

    def write():
        with torch.inference_mode():
            written = theirs.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=options.tokens,
                use_cache=True,
                **choice,
            )
        return written.numpy()

    return write


def matrix_vector(config: GPTConfig, options: argparse.Namespace) -> Callable[[], np.ndarray]:
    """Every weight matrix of the model, times a vector for each sequence, once per token."""
    weights = [w for w in GPT(config).state_dict().values() if w.ndim == 2]
    table = weights.pop(0).T  # the head; the other tables are looked up
    weights = [w for w in weights if len(w) != config.block_size] + [table]
    xs = {len(w): np.ones((options.batch_size, len(w)), "float32") for w in weights}

    def write():
        for _ in range(options.tokens):
            for w in weights:
                xs[len(w)] @ w
        return np.empty(0)

    return write


CONTESTANTS: dict[str, Callable[[GPTConfig, argparse.Namespace], Callable[[], np.ndarray]]] = {
    "tinygpt": tinygpt_writer,
    "transformers": transformers_writer,
    "matrix-vector": matrix_vector,
}


def contestant(name: str, options: argparse.Namespace, connection: Any) -> None:
    """The life of one process: at each word received, a text; its seconds sent back."""
    write = CONTESTANTS[name](CONFIGS[options.config], options)
    connection.send(write())
    while connection.recv():
        before = time.perf_counter()
        write()
        connection.send(time.perf_counter() - before)


def option(word: str) -> tuple[str, float]:
    name, _, value = word.partition("=")
    return name, int(value) if name == "top_k" else float(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time generation.", allow_abbrev=False)
    parser.add_argument("--config", choices=CONFIGS, default="gpt2")
    parser.add_argument("--against", nargs="*", choices=CONTESTANTS, default=["transformers"])
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--prompt-tokens", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64, help="to be written in each turn")
    parser.add_argument("--sampling", nargs="*", type=option, default=[], metavar="NAME=VALUE")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    options.sampling = {"temperature": 0.0, **dict(options.sampling)}
    config = CONFIGS[options.config]

    names = list(dict.fromkeys(["tinygpt", *options.against, "matrix-vector"]))
    context = multiprocessing.get_context("spawn")
    lines, written = {}, {}
    for name in names:
        lines[name], there = context.Pipe()
        arguments = (name, options, there)
        context.Process(target=contestant, args=arguments, daemon=True).start()
        written[name] = lines[name].recv()
    if options.sampling["temperature"] == 0 and "transformers" in names:
        same = (written["tinygpt"] == written["transformers"]).mean()
        print(f"of the tokens of tinygpt and transformers, {same:.0%} are the same")

    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            lines[name].send(True)
            times[name].append(lines[name].recv())
    for line in lines.values():
        line.send(False)

    tokens = options.batch_size * options.tokens
    ours = statistics.median(times["tinygpt"])
    print(f"\n{options.config}, {options.batch_size} x {options.tokens} tokens after "
          f"{options.prompt_tokens}, {options.sampling}, {threads()} threads, "
          f"{options.rounds} rounds in turn")  # fmt: skip
    print(f"{'':15} {'tokens/s':>9} {'best':>9} {'tinygpt is':>15}")
    rows = []
    for name in names:
        median, least = statistics.median(times[name]), min(times[name])
        rows.append({"name": name, "tokens_per_second": tokens / median, "best": tokens / least})
        print(
            f"{name:15} {tokens / median:9.1f} {tokens / least:9.1f} {median / ours:6.2f}x as fast"
        )
    size = 4 * (config.parameter_count - config.block_size * config.n_embd)
    least = statistics.median(times["matrix-vector"]) / options.tokens
    print(f"matrix-vector reads {size / least / 1e9:.1f} GB/s; tinygpt reaches "
          f"{least * options.tokens / ours:.0%} of that")  # fmt: skip
    if options.json:
        about = {"config": options.config, "batch_size": options.batch_size,
                 "prompt_tokens": options.prompt_tokens, "tokens": options.tokens,
                 "sampling": options.sampling, "threads": threads(),
                 "machine": platform.processor() or platform.machine(),
                 "numpy": np.__version__, "python": platform.python_version()}  # fmt: skip
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({**about, "results": rows}, file, indent=1)


if __name__ == "__main__":
    main()
