"""One training step (forward, backward, clip, AdamW) beside PyTorch's, on this machine.

    python benchmarks/train_step.py                                   # the small CPU configuration
    python benchmarks/train_step.py --config shakespeare --rounds 8 --steps 2
    python benchmarks/train_step.py --against torch torch-compiled --json out.json

Each contestant is a process of its own, so that memory and thread pools do not mix. They take
turns, A B C, C B A, ..., a few steps each, so that a machine that slows down slows all of them.
"products" is the floor: the matrix products of a step alone, in NumPy, cut as tinygpt cuts them
(with every key for every query, where causal attention needs half).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients
from tinygpt.backend import keep_freed_memory, one_blas_thread, thread_map, threads
from tinygpt.memory import training_memory
from tinygpt.parallel import micro_batch_count

CONFIGS: dict[str, tuple[GPTConfig, int]] = {  # and the batch size
    "shakespeare-cpu": (
        GPTConfig(65, 64, n_layer=4, n_head=4, n_embd=128, bias=False, activation="gelu"), 12,
    ),
    "shakespeare": (
        GPTConfig(65, 256, n_layer=6, n_head=6, n_embd=384, bias=False, activation="gelu"), 16,
    ),
    "gpt2": (GPTConfig(block_size=256), 2),
}  # fmt: skip
ADAMW: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.1}


def batch(config: GPTConfig, B: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (B, config.block_size + 1))
    return tokens[:, :-1], tokens[:, 1:]


def tinygpt_step(config: GPTConfig, B: int) -> Callable[[], float]:
    model = GPT(config)
    optimizer = AdamW(model.parameters(), **ADAMW)
    ids, targets = batch(config, B)

    def step():
        loss = accumulate_gradients(model.loss, ids, targets, rng=(0, optimizer.steps))
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss)

    return step


def torch_step(config: GPTConfig, B: int, compiled: bool = False) -> Callable[[], float]:
    import torch
    from torch_gpt import TorchGPT

    torch.set_num_threads(threads())
    torch.manual_seed(0)
    model = TorchGPT(config)
    optimizer = model.optimizer(**ADAMW)
    ids, targets = (torch.from_numpy(a.copy()) for a in batch(config, B))
    forward = torch.compile(model.loss) if compiled else model.loss

    def step():
        loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def products_step(config: GPTConfig, B: int) -> Callable[[], float]:
    """Every matrix product of a step, for each piece of the batch, on the threads."""
    keep_freed_memory()
    T, C, V, L = config.block_size, config.n_embd, config.vocab_size, config.n_layer
    H, D = config.n_head, config.head_size
    pieces = micro_batch_count(B, T)
    rng = np.random.default_rng(0)
    bounds = [B * i // pieces for i in range(pieces + 1)]

    def matrix(*shape):
        return rng.standard_normal(shape, "float32")

    weights = [matrix(C, 3 * C), matrix(C, C), matrix(C, 4 * C), matrix(4 * C, C)]
    head = matrix(C, V)
    work = []
    for start, stop in itertools.pairwise(bounds):
        b = stop - start
        rows = {n: matrix(b * T, n) for n in {C, 3 * C, 4 * C, V}}
        qkv, kT, scores = matrix(b, H, T, D), matrix(b, H, D, T), matrix(b, H, T, T)
        work.append((rows, qkv, kT, scores))

    def linear(x, w, dy):
        x @ w
        dy @ w.T
        x.T @ dy

    def piece(arrays):
        rows, q, kT, scores = arrays
        for _ in range(L):
            for w in weights:
                linear(rows[w.shape[0]], w, rows[w.shape[1]])
            for _ in range(2):
                q @ kT  # scores; dy vT
            for _ in range(4):
                scores @ q  # p v; pT dy, ds k, dsT q
        linear(rows[C], head, rows[V])

    def step():
        n = min(threads(), len(work))
        with one_blas_thread():
            thread_map(lambda i: [piece(arrays) for arrays in work[i::n]], range(n))
        return 0.0

    return step


CONTESTANTS: dict[str, Callable[[GPTConfig, int], Callable[[], float]]] = {
    "tinygpt": tinygpt_step,
    "torch": torch_step,
    "torch-compiled": lambda config, B: torch_step(config, B, compiled=True),
    "products": products_step,
}


def contestant(name: str, config: GPTConfig, B: int, connection: Any) -> None:
    """The life of one process: for each number received, so many steps; their seconds sent back."""
    step = CONTESTANTS[name](config, B)
    first_loss = step()
    step()
    connection.send(first_loss)
    while steps := connection.recv():
        seconds = []
        for _ in range(steps):
            before = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - before)
        connection.send((seconds, peak_memory()))


def peak_memory() -> float:
    """The largest resident size of this process so far, in bytes."""
    import resource

    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(description="Time one training step.", allow_abbrev=False)
    parser.add_argument("--config", choices=CONFIGS, default="shakespeare-cpu")
    parser.add_argument("--against", nargs="*", choices=CONTESTANTS, default=["torch"])
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--activation", choices=("gelu", "gelu_tanh"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=8, help="in a row, in each round")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    config, B = CONFIGS[options.config]
    B = options.batch_size or B
    changes = {"dropout": options.dropout}
    if options.activation:
        changes["activation"] = options.activation
    config = GPTConfig(**{**vars(config), **changes})

    names = list(dict.fromkeys(["tinygpt", *options.against, "products"]))
    context = multiprocessing.get_context("spawn")
    lines, processes = {}, []
    for name in names:
        lines[name], there = context.Pipe()
        arguments = (name, config, B, there)
        processes.append(context.Process(target=contestant, args=arguments, daemon=True))
        processes[-1].start()
        first_loss = lines[name].recv()
        if name != "products":
            print(f"{name}: first loss {first_loss:.4f}", flush=True)

    times: dict[str, list[float]] = {name: [] for name in names}
    memory = {}
    for number in range(options.rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            lines[name].send(options.steps)
            seconds, memory[name] = lines[name].recv()
            times[name] += seconds
    for line in lines.values():
        line.send(0)

    ours = statistics.median(times["tinygpt"])
    print(f"\n{options.config}, batch {B}, dropout {config.dropout}, {threads()} threads, "
          f"{options.rounds} rounds of {options.steps} steps in turn")  # fmt: skip
    print("\n| | median | least | time / tinygpt's | peak memory | / tinygpt's |")
    print("|---|---|---|---|---|---|")
    rows = []
    for name in names:
        median, least = statistics.median(times[name]), min(times[name])
        rows.append({"name": name, "median_s": median, "min_s": least, "peak_bytes": memory[name]})
        ms = f"{median * 1e3:.1f} ms | {least * 1e3:.1f} ms | {median / ours:.2f}"
        peak = f"{memory[name] / 1e6:.0f} MB | {memory[name] / memory['tinygpt']:.2f}"
        print(f"| {name} | {ms} | {peak if name != 'products' else '|'} |")
    estimate = sum(training_memory(config, B).values())
    print(f"\nThe estimate of tinygpt's peak was {estimate / 1e6:.0f} MB.")
    share = statistics.median(times["products"]) / ours
    print(f"Matrix products take {share:.0%} of tinygpt's step.")
    if options.json:
        about = {"config": options.config, "batch_size": B, "dropout": config.dropout,
                 "threads": threads(), "machine": platform.processor() or platform.machine(),
                 "numpy": np.__version__, "python": platform.python_version()}  # fmt: skip
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({**about, "results": rows}, file, indent=1)


if __name__ == "__main__":
    main()
