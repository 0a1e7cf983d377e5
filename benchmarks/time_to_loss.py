"""Seconds of training to a validation loss: tinygpt's default recipe, PyTorch on the published one.

    python benchmarks/time_to_loss.py --seeds 0 1 2
    python benchmarks/time_to_loss.py --turns 4 --torch-steps 40 --steps 20     # does it work?

tinygpt trains as `examples/train_shakespeare.py` does by default, PyTorch eager (torch_gpt.py) as
nanoGPT does for a CPU (preset nanogpt-cpu, 2000 steps, which end near 1.905). Each is a process of
its own, and they take turns: a share of the steps each. What counts is training: neither evaluation
nor the other's turn. After each turn tinygpt's validation loss is read, over the whole split; the
first at or below the target stops its clock. PyTorch's stops when its steps are done.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import train_shakespeare as script  # noqa: E402

from tinygpt import GPT, GPTConfig, accumulate_gradients, data, evaluate  # noqa: E402
from tinygpt.backend import threads  # noqa: E402
from tinygpt.tokenizers import Char  # noqa: E402

Contestant = tuple[int, Callable[[int], None], Callable[[], float]]  # steps, a step, val_loss


def settings_of(preset: str, seed: int, steps: int | None) -> dict[str, Any]:
    settings = script.fresh_settings({"preset": preset, "seed": seed})
    return settings | {"steps": steps or settings["steps"]}


def prepare(settings: dict[str, Any]) -> tuple[GPTConfig, Any, Any]:
    """-> config, loader, (validation ids, targets)"""
    text = data.shakespeare()
    tokenizer = Char.train(text)
    train_tokens, val_tokens = data.split(tokenizer.encode_array(text))
    config = GPTConfig(vocab_size=tokenizer.vocab_size, **script.model_options(settings))
    loader = data.Loader(train_tokens, config.block_size, settings["batch_size"], settings["seed"])
    return config, loader, data.windows(val_tokens, config.block_size)


def rate(settings: dict, step: int) -> float:
    return script.warmup_cosine(
        step, settings["steps"], settings["warmup"], final=settings["final_lr"]
    )


def tinygpt_run(seed: int, steps: int | None) -> Contestant:
    return training(settings_of("default", seed, steps))


def training(settings: dict[str, Any]) -> Contestant:
    """What examples/train_shakespeare.py does with these settings, step by step."""
    config, loader, validation = prepare(settings)
    model = GPT(config, rng=settings["seed"])
    optimizer = script.make_optimizer(model, settings)

    def step(number: int) -> None:
        accumulate_gradients(model.loss, *next(loader), rng=(settings["seed"], number))
        optimizer.clip_grad_norm(settings["clip"])
        optimizer.step(rate(settings, number))
        optimizer.zero_grad()

    return settings["steps"], step, lambda: float(evaluate(model.loss, *validation))


def torch_run(seed: int, steps: int | None) -> Contestant:
    import torch
    from torch_gpt import TorchGPT

    settings = settings_of("nanogpt-cpu", seed, steps)
    config, loader, validation = prepare(settings)
    torch.set_num_threads(threads())
    torch.manual_seed(seed)
    model = TorchGPT(config)
    optimizer = model.optimizer(settings["lr"], settings["betas"], settings["weight_decay"])

    def step(number: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] * rate(settings, number)
        ids, targets = (torch.from_numpy(a.astype("int64")) for a in next(loader))
        model.loss(ids, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def val_loss() -> float:
        with torch.no_grad():
            ids, targets = (torch.from_numpy(a.astype("int64")) for a in validation)
            counted = [int((t != -1).sum()) for t in targets.split(64)]
            pairs = zip(ids.split(64), targets.split(64), strict=True)
            losses = [float(model.loss(i, t)) for i, t in pairs]
        return sum(x * n for x, n in zip(losses, counted, strict=True)) / sum(counted)

    return settings["steps"], step, val_loss


def contestant(make: Callable, seed: int, steps: int | None, turns: int, line: Any) -> None:
    """The life of one process: at each signal, the next share of the steps. Sends back the seconds
    of training so far, and the validation loss (PyTorch's only at the end)."""
    total, step, val_loss = make(seed, steps)
    line.send(total)
    seconds = 0.0
    for turn in range(turns):
        line.recv()
        before = time.perf_counter()
        for number in range(total * turn // turns, total * (turn + 1) // turns):
            step(number)
        seconds += time.perf_counter() - before
        wanted = make is tinygpt_run or turn == turns - 1
        line.send((seconds, val_loss() if wanted else float("nan")))


def race(seed: int, options: argparse.Namespace) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    lines = []
    for make, steps in ((tinygpt_run, options.steps), (torch_run, options.torch_steps)):
        here, there = context.Pipe()
        arguments = (make, seed, steps, options.turns, there)
        context.Process(target=contestant, args=arguments, daemon=True).start()
        here.recv()
        lines.append(here)
    ours: tuple[float, float] | None = None  # seconds and loss when the target was met
    last: list[tuple[float, float]] = [(0.0, 0.0), (0.0, 0.0)]
    for turn in range(options.turns):
        for i in (0, 1) if turn % 2 == 0 else (1, 0):
            lines[i].send("go")
            last[i] = lines[i].recv()
        if ours is None and last[0][1] <= options.target:
            ours = last[0]
    seconds, loss = ours or (float("nan"), last[0][1])
    return {"seed": seed, "tinygpt_s": seconds, "tinygpt_loss": loss, "tinygpt_end": last[0][1],
            "torch_s": last[1][0], "torch_loss": last[1][1]}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Race to a loss.", allow_abbrev=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--target", type=float, default=1.88)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--steps", type=int, help="of tinygpt (default: the recipe's)")
    parser.add_argument("--torch-steps", type=int, help="default: the published 2000")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    print(f"| seed | tinygpt, seconds to {options.target} | its loss at the end | "
          "PyTorch, seconds for its steps | its loss | ratio |")  # fmt: skip
    print("|---|---|---|---|---|---|")
    results = []
    for seed in options.seeds:
        r = race(seed, options)
        results.append(r)
        print(f"| {seed} | {r['tinygpt_s']:.1f} | {r['tinygpt_end']:.4f} | {r['torch_s']:.1f} "
              f"| {r['torch_loss']:.4f} | {r['torch_s'] / r['tinygpt_s']:.2f} |",
              flush=True)  # fmt: skip
    ratio = statistics.mean(r["torch_s"] / r["tinygpt_s"] for r in results)
    print(f"\nMean ratio over {len(results)} seeds: {ratio:.2f} (nan: a target not reached).")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
