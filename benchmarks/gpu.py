"""One training step on a GPU beside PyTorch's, in bfloat16: what a table needs, from one command.

    python benchmarks/gpu.py                          # both configurations, all contestants
    python benchmarks/gpu.py --save                   # and keep the table in benchmarks/results
    python benchmarks/gpu.py --config gpt2 --against "eager, flash"

Each contestant is a process of its own, one after the other. It takes 10 steps to warm up and then
50, with a CUDA event between two of them and nothing read back, on random tokens that come from the
CPU in every step; the time of a step is the median. tinygpt runs twice, launch by launch and with
the whole step as a CUDA graph; its better time is what the others are compared with. PyTorch runs
under autocast with fused AdamW (torch_gpt.py), eager and compiled, with its flash attention and
with cuDNN's. Where it is not installed, tinygpt runs alone.

The floor is a model: matrix products at the speed of one large product, and what has to pass
through memory at the speed of one large copy, both measured first, with nothing at the same time.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import importlib.util
import itertools
import multiprocessing
import platform
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients
from tinygpt.backend import cupy, to_numpy
from tinygpt.kernels import precision
from tinygpt.kernels.gemm import product
from tinygpt.kernels.precision import for_products
from tinygpt.recorded_step import RecordedStep

CONFIGS: dict[str, tuple[GPTConfig, int]] = {  # and the batch size
    "shakespeare": (
        GPTConfig(65, 256, n_layer=6, n_head=6, n_embd=384, bias=False, dropout=0.2,
                  activation="gelu"), 64,
    ),
    # With the vocabulary rounded up to a multiple of 64, as everyone trains it.
    "gpt2": (GPTConfig(50304, 1024, n_layer=12, n_head=12, n_embd=768), 16),
}  # fmt: skip
OURS = ("tinygpt", "tinygpt, graph")  # a step as its launches, and as one
PEERS = ("eager, flash", "eager, cudnn", "compiled, flash", "compiled, cudnn")
ADAMW: dict[str, Any] = {"lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.1}
WARM_UP, STEPS = 10, 50
RESULTS = Path(__file__).parent / "results"


# ---- the floor ----------------------------------------------------------------------------------


def product_flops(config: GPTConfig, B: int) -> float:
    """Of the products of a step, forward and backward; attention is causal and looks at half."""
    N, T, C, L = B * config.block_size, config.block_size, config.n_embd, config.n_layer
    weights = L * 12 * C * C + config.vocab_size * C
    attention = 7 * L * N * T * C  # q k^T and p v; again q k^T, dy v^T, dv, dq and dk
    return 6 * N * weights + attention


def moved_bytes(config: GPTConfig, B: int) -> float:
    """What has to be read and written beside the products: activations in bfloat16, whatever can
    happen in one pass in one pass."""
    N, C, L = B * config.block_size, config.n_embd, config.n_layer
    norms = (2 * L + 1) * (8 + 8) * N * C  # with the residual added: two in, two out, each way
    activations = L * (4 * 4 + 4 * 6) * N * C  # x, y; dy, x, dx; 4 C wide
    logits = 3 * 2 * N * config.vocab_size  # read for the sum, read again, overwritten by dlogits
    embedding = (4 + 8) * N * C
    optimizer = 36 * config.parameter_count  # w, m, v in and out, g in, bfloat16 out; g's norm, 0
    return norms + activations + logits + embedding + optimizer


def floor_seconds(config: GPTConfig, B: int, flops: float, bandwidth: float) -> float:
    return product_flops(config, B) / flops + moved_bytes(config, B) / bandwidth


def peaks() -> dict[str, Any]:
    """What this GPU is, and how fast it multiplies and copies."""
    cuda = cupy()
    rng = np.random.default_rng(0)
    with precision("bfloat16"):
        a, b = (
            for_products(cuda.asarray(rng.standard_normal((8192, 8192), "float32")))
            for _ in range(2)
        )
    one, other = (cuda.zeros(1 << 29, "float32") for _ in range(2))  # 2 GiB each
    multiply = event_times(lambda: product(a, b, a.dtype), cupy_events(), 5, 20)
    copy = event_times(lambda: cuda.copyto(one, other), cupy_events(), 5, 20)
    version = cuda.cuda.runtime.runtimeGetVersion()
    return {
        "gpu": cuda.cuda.runtime.getDeviceProperties(0)["name"].decode(),
        "cuda": f"{version // 1000}.{version % 1000 // 10}",
        "flops": 2 * 8192**3 / statistics.median(multiply),
        "bandwidth": 2 * one.nbytes / statistics.median(copy),
    }


# ---- contestants --------------------------------------------------------------------------------


@dataclass
class Events:
    """How a library marks a moment on the GPU, and says how many seconds lie between two."""

    mark: Callable[[], Any]
    seconds: Callable[[Any, Any], float]


def cupy_events() -> Events:
    cuda = cupy().cuda

    def mark():
        event = cuda.Event()
        event.record()
        return event

    def seconds(a, b):
        b.synchronize()
        return cuda.get_elapsed_time(a, b) / 1e3

    return Events(mark, seconds)


def torch_events() -> Events:
    import torch

    def mark():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(a, b):
        b.synchronize()
        return a.elapsed_time(b) / 1e3

    return Events(mark, seconds)


def event_times(step: Callable, events: Events, warm_up: int, steps: int) -> list[float]:
    """Seconds of each of `steps` steps, after others. Nothing is waited for until all are under
    way."""
    for _ in range(warm_up):
        step()
    marks = [events.mark()]
    for _ in range(steps):
        step()
        marks.append(events.mark())
    return [events.seconds(a, b) for a, b in itertools.pairwise(marks)]


def batches(config: GPTConfig, B: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, config.vocab_size, (8, B, config.block_size + 1))
    return itertools.cycle([(rows[:, :-1].copy(), rows[:, 1:].copy()) for rows in tokens])


def tinygpt_step(config: GPTConfig, B: int, graph: bool = False) -> Callable[[], Any]:
    model = GPT(config, device="cuda")
    optimizer = AdamW(model.parameters(), **ADAMW)
    data = batches(config, B)
    recorded = RecordedStep(model, optimizer, 1.0)

    def step():
        ids, targets = next(data)
        rng = (0, optimizer.steps)
        if graph:
            return recorded(ids, targets, rng)[0]
        loss = accumulate_gradients(model.loss, ids, targets, rng, micro_batches=1)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def torch_step(config: GPTConfig, B: int, compiled: bool) -> Callable[[], Any]:
    import torch
    from torch_gpt import TorchGPT

    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = True  # for what autocast leaves in float32
    model = TorchGPT(config).cuda()
    optimizer = model.optimizer(**ADAMW)
    forward = torch.compile(model.loss) if compiled else model.loss
    pinned = [[torch.from_numpy(a).pin_memory() for a in batch]
              for batch in itertools.islice(batches(config, B), 8)]  # fmt: skip
    data = itertools.cycle(pinned)

    def step():
        ids, targets = (a.to("cuda", non_blocking=True) for a in next(data))
        with torch.autocast("cuda", torch.bfloat16):
            loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


@dataclass
class Result:
    """What one contestant measured of itself."""

    name: str
    seconds: float  # of a step
    memory: int  # bytes of the GPU in use at the end: pools keep what they needed at the peak
    loss: float  # of the last step
    kernels: list[tuple[str, int, float]] = field(default_factory=list)  # in a step; see profiled()

    @property
    def launches(self) -> str:
        """How many kernels a step starts, and for how much of its time one is at work."""
        if not self.kernels:
            return "not counted"
        busy = sum(seconds for _, _, seconds in self.kernels) / self.seconds
        return f"{sum(count for _, count, _ in self.kernels)}, at work {busy:.0%}"


def measure(name: str, config: GPTConfig, B: int) -> Result:
    if name in OURS:
        with precision("bfloat16"):
            step = tinygpt_step(config, B, graph=name != "tinygpt")
            return measured(name, step, cupy_events(), used_by_cupy)
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mode, attention = name.split(", ")
    backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    with sdpa_kernel(backends[attention]):
        step = torch_step(config, B, mode == "compiled")
        return measured(name, step, torch_events(), used_by_torch)


def measured(name: str, step: Callable, events: Events, used: Callable[[], int]) -> Result:
    seconds = statistics.median(event_times(step, events, WARM_UP, STEPS))
    memory = used()
    loss = step()
    result = Result(name, seconds, memory, float(to_numpy(loss) if name in OURS else loss))
    if importlib.util.find_spec("torch") is not None:
        try:
            result.kernels = profiled(step)
        except Exception as error:  # what was timed is not to be lost for it
            print(f"{name}: PyTorch's profiler failed: {error}", file=sys.stderr)
    return result


def used_by_cupy() -> int:
    free, total = cupy().cuda.runtime.memGetInfo()
    return total - free


def used_by_torch() -> int:
    import torch

    free, total = torch.cuda.mem_get_info()
    return total - free


def profiled(step: Callable) -> list[tuple[str, int, float]]:
    """Each kernel of a step, whoever started it, as PyTorch's profiler sees it: its name, how often
    it ran, and its seconds; those that took longest first."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        step()
        torch.cuda.synchronize()
    count: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for event in profiler.events():
        on_gpu = event.device_type == torch.autograd.DeviceType.CUDA
        if on_gpu and not event.name.startswith(("Memcpy", "Memset")):
            count[event.name] += 1
            seconds[event.name] += event.time_range.elapsed_us() / 1e6
    return [(name, count[name], spent) for name, spent in seconds.most_common()]


# ---- processes ----------------------------------------------------------------------------------


def in_a_process(f: Callable, *arguments: Any) -> Any:
    """f(*arguments) in a process of its own; a RuntimeError with the last line of what it said
    where it failed."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_report, args=(there, f, arguments))
    process.start()
    there.close()
    try:
        result, error = here.recv()
    except EOFError:
        result, error = None, "its process died"
    process.join()
    if error is not None:
        raise RuntimeError(error)
    return result


def _report(connection: Any, f: Callable, arguments: tuple) -> None:
    try:
        connection.send((f(*arguments), None))
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        connection.send((None, f"{type(error).__name__}: {lines[0]}"))


# ---- the page -----------------------------------------------------------------------------------


def table(config: GPTConfig, B: int, machine: dict[str, Any], results: list[Result]) -> str:
    """In Markdown: a row for each contestant."""
    tokens = B * config.block_size
    floor = floor_seconds(config, B, machine["flops"], machine["bandwidth"])
    ours = min((r.seconds for r in results if r.name in OURS), default=None)
    lines = [
        "| | tokens/s | ms | share of the floor | kernels | memory | tinygpt / this | loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        lines.append(
            f"| {r.name if r.name in OURS else 'PyTorch ' + r.name} "
            f"| {tokens / r.seconds:,.0f} | {r.seconds * 1e3:.2f} | {floor / r.seconds:.0%} "
            f"| {r.launches} | {r.memory / 1e9:.2f} GB "
            f"| {'' if ours is None else format(r.seconds / ours, '.2f')} | {r.loss:.3f} |"
        )
    products = product_flops(config, B) / machine["flops"]
    lines.append(
        f"\nThe floor, modelled: {floor * 1e3:.2f} ms, {products * 1e3:.2f} of them products."
    )
    return "\n".join(lines)


def longest(result: Result, rows: int = 15) -> str:
    """In Markdown: the kernels that took most of a step."""
    lines = ["| kernel | times | ms |", "|---|---|---|"]
    for name, count, seconds in result.kernels[:rows]:
        short = re.sub(r"<.*", "", name.removeprefix("void "))[:60].replace("|", " ")
        lines.append(f"| `{short}` | {count} | {seconds * 1e3:.3f} |")
    rest = sum(seconds for _, _, seconds in result.kernels[rows:])
    return "\n".join([*lines, f"| all others | | {rest * 1e3:.3f} |"])


def heading(machine: dict[str, Any], command: str) -> str:
    """When, where, with which versions, by which command."""
    versions = [f"Python {platform.python_version()}", f"CUDA {machine['cuda']}"]
    for name in ("cupy-cuda13x", "cupy-cuda12x", "torch", "numpy"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            if name == "torch":
                versions.append("no PyTorch, so tinygpt runs alone")
    return (
        f"# {machine['gpu']}, {datetime.date.today()}\n\n"
        f"`{command}`\n\n"
        f"Driver {machine['driver']}, {', '.join(versions)}. One large product in bfloat16 ran at "
        f"{machine['flops'] / 1e12:.0f} TFLOP/s, one large copy at "
        f"{machine['bandwidth'] / 1e12:.2f} TB/s."
    )


def driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.split("\n")[0].strip()
    except OSError:
        return "unknown"


def save(page: str, machine: dict[str, Any], folder: Path) -> Path:
    """Write the page under a name of its own, by GPU and day: runs of one day are numbered."""
    folder.mkdir(parents=True, exist_ok=True)
    gpu = re.sub(r"[^a-z0-9]+", "-", machine["gpu"].lower()).strip("-")
    names = (f"{gpu}-{datetime.date.today()}{n and f'-{n}' or ''}.md" for n in itertools.count())
    file = next(folder / name for name in names if not (folder / name).exists())
    file.write_text(page, encoding="utf-8")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--against", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--save", nargs="?", const=RESULTS, type=Path, metavar="FOLDER",
                        help="keep the page (default: in benchmarks/results)")  # fmt: skip
    options = parser.parse_args()

    try:
        machine = in_a_process(peaks) | {"driver": driver()}
    except RuntimeError as error:
        sys.exit(f"there is no measuring here: {error}")
    page = [heading(machine, f"python benchmarks/gpu.py {' '.join(sys.argv[1:])}".strip())]
    print(page[0], flush=True)

    def say(text):
        page.append(text)
        print(f"\n{text}", flush=True)

    peers = options.against if importlib.util.find_spec("torch") is not None else []
    for name in options.config:
        config, B = CONFIGS[name]
        say(
            f"## {name}\n\n{config.n_layer} layers, {config.n_head} heads, {config.n_embd} wide, "
            f"vocabulary {config.vocab_size:,}, block {config.block_size}, batch {B}, dropout "
            f"{config.dropout}, {config.activation}, bfloat16; medians of {STEPS} steps."
        )
        results = []
        for contestant in [*OURS, *peers]:
            try:
                results.append(in_a_process(measure, contestant, config, B))
            except RuntimeError as error:
                say(f"{contestant} failed: {error}")
        say(table(config, B, machine, results))
        for result in results:
            if result.kernels:
                say(f"### Where the time goes: {result.name}\n\n{longest(result)}")
    if options.save:
        text = "\n\n".join(page) + "\n"
        print(f"\nsaved in {save(text, machine, options.save)}")


if __name__ == "__main__":
    main()
