"""Where the time of a training step goes, seen from NumPy: products, passes over arrays, the rest.

    python benchmarks/calls.py                              # the small CPU configuration
    python benchmarks/calls.py --config shakespeare --dropout 0.2 --lines 30

Forward and backward of one micro-batch run on one thread with arrays that time every call to NumPy
they are in. What no call accounts for is Python between calls. Asking for the time costs some, so
the step is timed without it as well. --lines: the calls that took most, by line of tinygpt. Last,
how fast this core reads and writes arrays that are in its cache, and others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from train_step import CONFIGS, batch

import tinygpt
from tinygpt import GPT, GPTConfig
from tinygpt.backend import keep_freed_memory, one_blas_thread
from tinygpt.gather import gather_gradients
from tinygpt.parallel import micro_batch_count

PACKAGE = str(Path(tinygpt.__file__).parent)
PRODUCTS, PASSES, SUMS, MOVES = "products", "passes over arrays", "along an axis", "copies"
KINDS: dict[str, str] = {"matmul": PRODUCTS, "einsum": SUMS, "reduce": SUMS, "argmax": SUMS}
MOVING = {"concatenate", "copy", "astype", "empty", "empty_like", "full", "ones", "zeros",
          "zeros_like", "repeat", "tri", "setitem"}  # fmt: skip

seconds: Counter[tuple[str, str]] = Counter()  # by name of the call, and line of tinygpt
calls: Counter[tuple[str, str]] = Counter()


class Timed(np.ndarray):
    """An array whose calls to NumPy are timed; what they give is such an array again."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        name = ufunc.__name__ if method == "__call__" else method
        if out is not None:
            options["out"] = tuple(map(_plain, out))
        y = _timed(name, getattr(ufunc, method), *map(_plain, inputs), **options)
        return y if out is None else out[0]

    def __array_function__(self, function, types, arguments, options):
        options = {name: _plain(x) for name, x in options.items()}
        return _timed(function.__name__, function, *map(_plain, arguments), **options)

    def __setitem__(self, key, value):
        _timed("setitem", _plain(self).__setitem__, _plain(key), _plain(value))

    def argmax(self, *arguments, **options):
        return _timed("argmax", _plain(self).argmax, *arguments, **options)

    def copy(self, order="C"):
        return _timed("copy", _plain(self).copy, order)

    def astype(self, *arguments, **options):
        return _timed("astype", _plain(self).astype, *arguments, **options)


def _plain(x: Any) -> Any:
    """x, with plain arrays in place of timed ones."""
    if isinstance(x, list | tuple):
        return type(x)(map(_plain, x))
    return x.view(np.ndarray) if isinstance(x, Timed) else x


def _timed(name: str, f: Callable, *arguments: Any, **options: Any) -> Any:
    before = time.perf_counter()
    y = f(*arguments, **options)
    spent = time.perf_counter() - before
    call = name, _line()
    seconds[call] += spent
    calls[call] += 1
    return np.asarray(y).view(Timed) if isinstance(y, np.ndarray | np.generic) else y


def _line() -> str:
    """The line of tinygpt that is asking."""
    frame = sys._getframe(2)
    while frame.f_back is not None and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename.removeprefix(PACKAGE)[1:]}:{frame.f_lineno}"


def kind(name: str) -> str:
    """What kind of call this is: if no other, a pass over arrays."""
    return KINDS.get(name, MOVES if name in MOVING else PASSES)


def step_times(model: GPT, ids: Any, targets: Any, steps: int) -> Iterator[float]:
    with one_blas_thread():
        for number in range(steps):
            before = time.perf_counter()
            with gather_gradients():
                model.loss(ids, targets, rng=number).backward()
            yield time.perf_counter() - before


def memory_speeds() -> dict[str, float]:
    """GB/s of one core that halves numbers, a quarter of a MB in each call."""
    n = 1 << 16
    small, other, large = np.ones(n, "f"), np.ones(n, "f"), np.ones((256, n), "f")  # 64 MB

    def speed(read, write):
        times = []
        for _ in range(8):
            before = time.perf_counter()
            for i in range(len(large)):
                np.multiply(read(i), 0.5, out=write(i))
            times.append(time.perf_counter() - before)
        return large.nbytes / min(times) / 1e9

    return {
        "in its cache": speed(lambda i: small, lambda i: other),
        "reading others": speed(lambda i: large[i], lambda i: other),
        "writing others": speed(lambda i: small, lambda i: large[i]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", choices=CONFIGS, default="shakespeare-cpu")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--lines", type=int, default=0, metavar="N")
    options = parser.parse_args()
    config, B = CONFIGS[options.config]
    config = GPTConfig(**{**vars(config), "dropout": options.dropout})
    rows = B // micro_batch_count(B, config.block_size)

    keep_freed_memory()
    model = GPT(config)
    ids, targets = batch(config, rows)
    untimed = statistics.median(list(step_times(model, ids, targets, options.steps + 5))[5:])
    for p in model.parameters():
        p.data = p.data.view(Timed)
    list(step_times(model, ids, targets, 5))
    seconds.clear()
    calls.clear()
    timed = sum(step_times(model, ids, targets, options.steps)) / options.steps

    print(f"{options.config}, {rows} x {config.block_size} tokens, dropout {config.dropout}, one "
          f"thread, {options.steps} steps: {timed * 1e3:.1f} ms each, and a median of "
          f"{untimed * 1e3:.1f} ms untimed\n")  # fmt: skip
    print("| | calls | ms | share |\n|---|---|---|---|")
    for wanted in (PRODUCTS, PASSES, SUMS, MOVES):
        spent, count = (
            sum(n for (name, _), n in all_.items() if kind(name) == wanted) / options.steps
            for all_ in (seconds, calls)
        )
        print(f"| {wanted} | {count:.0f} | {spent * 1e3:.1f} | {spent / timed:.0%} |")
    rest = timed - sum(seconds.values()) / options.steps
    print(f"| Python, and the timing | | {rest * 1e3:.1f} | {rest / timed:.0%} |")
    speeds = ", ".join(f"{name} {gb:.1f}" for name, gb in memory_speeds().items())
    print(f"\nGB/s of this core, halving float32: {speeds}")
    if options.lines:
        print("\n| call | line | calls | us each | ms |\n|---|---|---|---|---|")
    for call, spent in seconds.most_common(options.lines):
        each, all_ = spent / calls[call] * 1e6, spent / options.steps * 1e3
        name, line = call
        count = calls[call] / options.steps
        print(f"| `{name}` | {line} | {count:.0f} | {each:.1f} | {all_:.2f} |")


if __name__ == "__main__":
    main()
