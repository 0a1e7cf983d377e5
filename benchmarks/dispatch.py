"""What the tape adds to one small op, forward and backward, over the same lines of raw NumPy.

    python benchmarks/dispatch.py

A chain of ops on 8 numbers, where nothing but overhead takes time: with Tensors, with the ops
alone (y, backward = op(x), the gradients passed on by hand), and in bare NumPy. They take turns;
the least of many rounds counts, because all that disturbs only adds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from tinygpt import Tensor, ops

CHAIN = 50  # ops, one after the other
x0 = np.linspace(0.5, 1.5, 8, dtype="float32")
w = np.linspace(0.9, 1.1, 8, dtype="float32")


def with_tensors(f: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    def run():
        y = Tensor(x0, requires_grad=True)
        for _ in range(CHAIN):
            y = f(y)
        y.backward(x0)

    return run


def with_ops(op: Callable, *constants: np.ndarray) -> Callable[[], None]:
    def run():
        y, backwards = x0, []
        for _ in range(CHAIN):
            y, backward = op(y, *constants)
            backwards.append(backward)
        dy = x0
        while backwards:
            dy = backwards.pop()(dy)[0]

    return run


def raw_tanh():
    y, ys = x0, []
    for _ in range(CHAIN):
        y = np.tanh(y)
        ys.append(y)
    dy = x0
    while ys:
        y = ys.pop()
        dy = dy * (1 - y * y)


def raw_multiply():
    y = x0
    for _ in range(CHAIN):
        y = y * w
    dy = x0
    for _ in range(CHAIN):
        dy = dy * w


def raw_add():
    y = x0
    for _ in range(CHAIN):
        y = y + w


OPS: dict[str, tuple[Callable, Callable, Callable]] = {
    "tanh": (with_tensors(Tensor.tanh), with_ops(ops.tanh), raw_tanh),
    "multiply": (with_tensors(lambda y: y * w), with_ops(ops.multiply, w), raw_multiply),
    "add": (with_tensors(lambda y: y + w), with_ops(ops.add, w), raw_add),
}


def measure(rounds: int) -> dict[str, list[float]]:
    """{op: the least microseconds per op with Tensors, with the ops alone, in raw NumPy}."""
    least = {name: [float("inf")] * 3 for name in OPS}
    for _ in range(rounds):
        for name, ways in OPS.items():
            for i, run in enumerate(ways):
                before = time.perf_counter()
                run()
                seconds = time.perf_counter() - before
                least[name][i] = min(least[name][i], seconds / CHAIN * 1e6)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the tape.", allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    least = measure(options.rounds)
    print("| us per op, forward and backward | with Tensors | ops alone | raw NumPy | dispatch |")
    print("|---|---|---|---|---|")
    for name, (tensors, alone, raw) in least.items():
        print(f"| `{name}` | {tensors:.2f} | {alone:.2f} | {raw:.2f} | {tensors - raw:.2f} |")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(least, file, indent=1)


if __name__ == "__main__":
    main()
