"""Each op, forward and backward, beside PyTorch's, on one thread: a micro-batch keeps to a core.

    python benchmarks/ops.py                        # every op, at two sizes
    python benchmarks/ops.py gelu layer_norm --rounds 50 --json out.json

Sizes are those of a micro-batch of 512 tokens in the small Shakespeare model (128 channels, blocks
of 64) and in GPT-2 (768 channels, blocks of 256). The two take turns in one process, and both are
given the same arrays. "passes" is our time in passes over the op's largest array: what it costs
to read the array and write it again, in NumPy.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygpt import ops
from tinygpt.backend import keep_freed_memory, one_blas_thread

# name: (batch, tokens, channels, heads, vocabulary)
SIZES = {"shakespeare-cpu": (8, 64, 128, 4, 65), "gpt2": (2, 256, 768, 12, 50257)}


def cases(B: int, T: int, C: int, H: int, V: int) -> dict[str, tuple[Callable, Callable, list]]:
    """{op: (ours, PyTorch's, the arrays that both are given)}."""
    import torch
    from torch.nn import functional as F

    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, "float32")

    def attention(q, k, v):
        return ops.scaled_dot_product_attention(q, k, v, is_causal=True)

    x, wide = array(B, T, C), array(B, T, 4 * C)
    heads = [array(B, H, T, C // H) for _ in range(3)]
    ids = rng.integers(V, size=(B, T))
    head = 0.02 * array(V, C)
    return {
        "add": (ops.add, torch.add, [x, array(B, T, C)]),
        "linear": (ops.linear, lambda x, w, b: F.linear(x, w.T, b),
                   [x, 0.02 * array(C, 4 * C), array(4 * C)]),
        "layer_norm": (ops.layer_norm, lambda x, w, b: F.layer_norm(x, (C,), w, b),
                       [x, array(C), array(C)]),
        "rms_norm": (ops.rms_norm, lambda x, w: F.rms_norm(x, (C,), w, 1e-5), [x, array(C)]),
        "gelu": (ops.gelu, F.gelu, [wide]),
        "gelu_tanh": (ops.gelu_tanh, lambda x: F.gelu(x, approximate="tanh"), [wide]),
        "relu2": (ops.relu2, lambda x: torch.relu(x).square(), [wide]),
        "silu": (ops.silu, F.silu, [wide]),
        "softmax": (ops.softmax, lambda x: torch.softmax(x, -1), [array(B, H, T, T)]),
        "scaled_dot_product_attention": (
            attention, lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
            heads,
        ),
        "embedding": (ops.embedding, F.embedding, [ids, head]),
        "linear_cross_entropy": (
            ops.linear_cross_entropy,
            lambda x, w, ids: F.cross_entropy((x @ w.T).reshape(-1, V), ids.reshape(-1)),
            [x, head, rng.integers(V, size=(B, T))],
        ),
    }  # fmt: skip


def alternate(ours: Callable, theirs: Callable, arrays: list, rounds: int) -> dict[str, float]:
    """Median seconds of one forward and backward: {"tinygpt", "torch", "pass"}."""
    import torch

    largest = max(arrays, key=lambda a: a.size)
    y, _ = ours(*arrays)
    dy = np.ones_like(y)
    tensors = [torch.from_numpy(a).requires_grad_(a.dtype.kind == "f") for a in arrays]
    torch_dy = torch.from_numpy(dy) if y.ndim else torch.tensor(1.0)

    def run_ours():
        _, backward = ours(*arrays)
        backward(dy)

    def run_torch():
        for tensor in tensors:
            tensor.grad = None
        theirs(*tensors).backward(torch_dy)

    def one_pass():
        np.negative(largest)

    contestants = {"tinygpt": run_ours, "torch": run_torch, "pass": one_pass}
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 3):
        for name in list(contestants)[:: 1 if number % 2 else -1]:
            before = time.perf_counter()
            contestants[name]()
            seconds[name].append(time.perf_counter() - before)
    return {name: statistics.median(times[3:]) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the ops.", allow_abbrev=False)
    parser.add_argument("ops", nargs="*", metavar="OP", help="default: all of them")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    known = list(cases(1, 1, 8, 1, 8))
    unknown = set(options.ops) - set(known)
    if unknown:
        parser.error(f"unknown ops {sorted(unknown)}; there are {', '.join(known)}")

    import torch

    torch.set_num_threads(1)
    keep_freed_memory()
    results: list[dict[str, Any]] = []
    with one_blas_thread():
        for size, shape in SIZES.items():
            print(f"\n{size}: forward and backward, medians of {options.rounds}")
            print(f"{'':30} {'tinygpt':>10} {'torch':>10} {'ratio':>6} {'passes':>7}")
            for op, (ours, theirs, arrays) in cases(*shape).items():
                if options.ops and op not in options.ops:
                    continue
                times = alternate(ours, theirs, arrays, options.rounds)
                results.append({"size": size, "op": op, **times})
                print(
                    f"{op:30} {times['tinygpt'] * 1e3:7.3f} ms {times['torch'] * 1e3:7.3f} ms "
                    f"{times['torch'] / times['tinygpt']:5.2f}x "
                    f"{times['tinygpt'] / times['pass']:7.1f}"
                )
    if options.json:
        about = {"machine": platform.processor() or platform.machine(), "numpy": np.__version__,
                 "python": platform.python_version(), "torch": torch.__version__}  # fmt: skip
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({**about, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
