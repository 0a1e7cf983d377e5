"""How the cost of a step grows with batch, context, width and depth, beside its products' own.

    python benchmarks/scaling.py                  # each doubled four times, some minutes
    python benchmarks/scaling.py --doublings 2 --only width

For each of the four, from 1x to 16x of a small model: the least seconds of a step, the FLOPs of its
matrix products (attention as it runs, hidden blocks left out), and the exponents: the slope of
log(cost) over log(size), of the step and of the count. Sizes take turns, as contestants do.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time

import numpy as np
from train_step import tinygpt_step

from tinygpt import GPTConfig
from tinygpt.memory import keys_met

START = GPTConfig(65, 128, n_layer=2, n_head=2, n_embd=64, bias=False)
START_BATCH = 8


def grown(what: str, times: int) -> tuple[GPTConfig, int]:
    """(config, batch size) with one of them `times` as large. Heads stay as wide as they are."""
    if what == "batch":
        return START, START_BATCH * times
    changes = {
        "context": {"block_size": START.block_size * times},
        "width": {"n_embd": START.n_embd * times, "n_head": START.n_head * times},
        "depth": {"n_layer": START.n_layer * times},
    }[what]
    return dataclasses.replace(START, **changes), START_BATCH


def flops(config: GPTConfig, B: int) -> int:
    """Of the matrix products in a step, forward and backward; a multiplication with its addition
    counts as 2."""
    T, C, H, D = config.block_size, config.n_embd, config.n_head, config.head_size
    per_token = config.n_layer * (C * 3 * C + C * C + 2 * C * config.inner_size)
    per_token += C * config.vocab_size
    met, _ = keys_met(T, config.window, config.sinks)  # per query, on average
    # Linear layers: y, dx and dw. Attention: q k^T and p v; p^T dy, dy v^T, ds k and ds^T q.
    return round(2 * B * T * (3 * per_token + 6 * config.n_layer * H * D * met))


def slope(costs: list[float], sizes: list[int]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def measure(what: str, sizes: list[int], rounds: int) -> list[float]:
    """The least seconds of a step at each size."""
    steps = [tinygpt_step(*grown(what, size)) for size in sizes]
    least = [float("inf")] * len(sizes)
    for number in range(rounds + 1):  # a first round, which is not counted
        for i, step in enumerate(steps):
            before = time.perf_counter()
            step()
            seconds = time.perf_counter() - before
            least[i] = min(least[i], seconds) if number else least[i]
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description="How cost grows.", allow_abbrev=False)
    parser.add_argument("--only", choices=("batch", "context", "width", "depth"))
    parser.add_argument("--doublings", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    sizes = [2**i for i in range(options.doublings + 1)]
    print(f"| {START.n_layer} layers, {START.n_embd} wide, block {START.block_size}, "
          f"batch {START_BATCH} | " + " | ".join(f"{size}x" for size in sizes)
          + " | exponent | its products' |")  # fmt: skip
    print("|---" * (len(sizes) + 3) + "|")
    results = {}
    for what in [options.only] if options.only else ["batch", "context", "width", "depth"]:
        seconds = measure(what, sizes, options.rounds)
        counts = [flops(*grown(what, size)) for size in sizes]
        own, products = slope(seconds, sizes), slope([float(n) for n in counts], sizes)
        times = " | ".join(f"{s * 1e3:.0f} ms" for s in seconds)
        print(f"| {what} | {times} | {own:.2f} | {products:.2f} |", flush=True)
        results[what] = {"seconds": seconds, "flops": counts}
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
