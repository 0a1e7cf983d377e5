"""Prove every op, and a whole GPT, against finite differences."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from ..cases import cases
from ..gpt import GPT, GPTConfig
from ..gradcheck import GradientError, gradcheck
from .command_line import natural


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=natural, default=0, help="of the inputs (default: 0)")


def run(options: argparse.Namespace) -> int:
    """A line per op: the worst relative error over its cases and their arguments."""
    started = time.perf_counter()
    checks: dict[str, list[tuple]] = {}
    for case in cases(options.seed):
        op = case.name.partition(",")[0]
        checks.setdefault(op, []).append((case.f, case.arrays, case.allow_zero))
    checks["GPT"] = list(whole_gpt(options.seed))

    wrong = 0
    print("worst relative error of the gradients, against central differences in float64")
    for name, calls in checks.items():
        try:
            worst = max(gradcheck(f, *arrays, allow_zero=zero) for f, arrays, zero in calls)
            print(f"ok     {name:30} {worst:.1e}")
        except GradientError as error:
            wrong += 1
            print(f"WRONG  {name:30} {error}")
    seconds = time.perf_counter() - started
    print(f"{len(checks) - wrong} of {len(checks)} right, in {seconds:.1f} seconds")
    return 1 if wrong else 0


def whole_gpt(seed: int) -> Iterator[tuple]:
    """The loss of a small GPT as a function of each of its parameters, all of them moved off their
    initial values first: a gain of 1 or a bias of 0 would hide mistakes."""
    rng = np.random.default_rng(seed)
    model = GPT(GPTConfig(11, 7, n_layer=2, n_head=2, n_embd=12), rng, dtype="float64")
    for p in model.parameters():
        p.data = p.data + 0.3 * rng.standard_normal(p.shape)
    ids, targets = rng.integers(11, size=(2, 3, 5))

    for name, p in model.named_parameters():

        def gpt(w, p=p):
            kept, p.data = p.data, w
            loss = model.loss(ids, targets)
            p.data = kept

            def backward(dy):
                model.zero_grad()
                loss.backward(dy)
                return (p.grad,)

            return loss.data, backward

        gpt.__name__ = f"GPT, {name}"
        yield gpt, (p.data,), ()
