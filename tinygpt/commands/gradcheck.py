"""Prove every op, and a whole GPT, against finite differences."""

from __future__ import annotations

import argparse
import time

import numpy as np

from ..cases import CASES, gpt_case
from ..gradcheck import GradientError, gradcheck


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the inputs (default: 0)")


def run(options: argparse.Namespace) -> int:
    """One line per op: its worst relative error over all its cases and arguments."""
    started = time.perf_counter()
    failures = 0
    checks = {**CASES, "GPT": [gpt_case]}
    print("worst relative error of each gradient, against central differences in float64")
    for name, cases in checks.items():
        worst = 0.0
        try:
            for case in cases:
                op, arrays, allow_zero = case(np.random.default_rng(options.seed))
                worst = max(worst, gradcheck(op, *arrays, rng=options.seed, allow_zero=allow_zero))
            print(f"ok      {name:30} {worst:.1e}")
        except GradientError as error:
            failures += 1
            print(f"WRONG   {name:30} {error}")
    seconds = time.perf_counter() - started
    right = len(checks) - failures
    print(f"{right} of {len(checks)} right, in {seconds:.1f} seconds")
    return 1 if failures else 0
