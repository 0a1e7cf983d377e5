"""What a training step should take on an H200, worked out where there is none.

    python benchmarks/gpu_model.py

A step is run without computing anything, and each launch is noted: the bytes of its arrays, and the
operations of its products. tinygpt's runs on a stand-in for a GPU's arrays, as one graph; PyTorch
eager's on its fake tensors, with CPU autocast for CUDA's, and what CUDA does in one launch counted
as one. A launch takes as long as its bytes or its operations need, whichever is longer, and a
little to start. So this is the GPU's time: PyTorch's step takes longer where Python does. How long
Python takes is measured, on a core of this machine.

The rates below are assumptions, alike for both but for attention: benchmarks/gpu.py measures.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import statistics
import sys
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
from gpu import ADAMW, CONFIGS, STEPS, WARM_UP, batches
from time_to_loss import script

from tinygpt import GPT, AdamW, GPTConfig, accumulate_gradients, backend
from tinygpt.kernels import gemm, launch, precision

# An H200: of its 989 TFLOP/s in bfloat16, large products of random numbers reach about 790, those
# of a model less, and those with a side of NARROW or fewer less again; of its 4.8 TB/s, a large
# copy gets 4.3.
WIDE, NARROW_RATE, NARROW = 0.78 * 790e12, 0.5 * 790e12, 512
BANDWIDTH = 0.8 * 4.3e12
START = 2e-6  # seconds from one launch to the next
# Attention, in FLOP/s, forward and backward. PyTorch's FlashAttention 2: heads of 64, causal, 512
# to 1024 keys, on an H100 (Shah et al. 2024, arXiv:2407.08608, figures 5 and 6). Ours has the same
# tensor-core instructions, but a warp has half as many rows, and two of the products of the
# backward pass are computed twice, to need no atomics: a guess.
ATTENTION = {"tinygpt": (120e12, 90e12), "PyTorch": (200e12, 215e12)}


@dataclass
class Launch:
    """What one launch asks of the GPU."""

    name: str
    bytes: float
    flops: float = 0.0
    narrow: bool = False
    attention: int | None = None  # 0: forward, 1: backward

    def seconds(self, side: str) -> float:
        rate = NARROW_RATE if self.narrow else WIDE
        if self.attention is not None:
            rate = ATTENTION[side][self.attention]
        return START + max(self.flops / rate, self.bytes / BANDWIDTH)


@dataclass
class Step:
    """What a step launches, and the most bytes that are alive in it."""

    side: str
    launches: list[Launch]
    memory: int

    @property
    def seconds(self) -> float:
        return sum(launch.seconds(self.side) for launch in self.launches)


# ---- tinygpt ------------------------------------------------------------------------------------


class Notes:
    """What was launched, and how many bytes are alive, and were at the most."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.alive = self.most = 0

    def hold(self, array: np.ndarray) -> None:
        self.change(array.nbytes)
        weakref.finalize(array, self.change, -array.nbytes)

    def change(self, size: int) -> None:
        self.alive += size
        self.most = max(self.most, self.alive)


# Arguments of a kernel that pass through memory once more than the others, being changed in place.
AGAIN = {"adamw": (0, 1, 2), "clip": (0,), "muon": (0,)}


class Array(np.ndarray):
    """Stands for an array of a GPU. New ones are never touched, so they take no memory; what would
    be computed is noted, and gets a result of the right shape."""

    notes = Notes()

    def __new__(cls, shape, dtype):
        y = super().__new__(cls, shape, dtype)
        cls.notes.hold(y)
        return y

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__":  # a sum
            plain = [np.asarray(x) for x in inputs]
            y = np.asarray(getattr(ufunc, method)(*plain, **options)).view(Array)
        elif out is not None:
            y = out[0]
        else:
            one = [np.ones((), x.dtype) if isinstance(x, np.ndarray) else x for x in inputs]
            y = Array(np.broadcast_shapes(*map(np.shape, inputs)), ufunc(*one, **options).dtype)
        return noted(ufunc.__name__, y, *inputs)

    def __array_function__(self, function, types, args, options):
        y = super().__array_function__(function, types, args, options)
        return noted(function.__name__, y.view(Array), *args) if type(y) is np.ndarray else y

    def __setitem__(self, key, value):
        noted("set", self[key], value)

    def astype(self, dtype, copy=True, **options):
        if not copy and self.dtype == dtype:
            return self
        return noted("astype", Array(self.shape, dtype), self)

    def copy(self, order="C"):
        return noted("copy", Array(self.shape, self.dtype), self)


def noted(name: str, result: Any, *inputs: Any) -> Any:
    arrays = [x for x in (result, *inputs) if isinstance(x, np.ndarray)]
    Array.notes.launches.append(Launch(name, sum(x.nbytes for x in arrays)))
    return result


# kernel: forward (0) or backward (1), which argument is q, and its share of what is counted as
# attention's operations: 2 products forward, 5 backward, in two kernels.
ATTENTION_KERNELS = {
    "attention_forward": (0, 2, 2.0),
    "attention_backward_kv": (1, 3, 2.5),
    "attention_backward_q": (1, 3, 2.5),
}


def note_kernel(program, kernel, blocks, threads, arguments, shared) -> None:
    size = sum(x.nbytes for x in arguments if isinstance(x, Array))
    size += sum(arguments[i].nbytes for i in AGAIN.get(kernel, ()))
    found = Launch(kernel, size)
    if kernel in ATTENTION_KERNELS:
        found.attention, place, products = ATTENTION_KERNELS[kernel]
        found.flops = products * product_of_attention(arguments[place].shape)
    Array.notes.launches.append(found)


def product_of_attention(shape: tuple[int, ...]) -> float:
    """Operations of one causal product, of which half is needed.     shape: (B, H, T, D), of q."""
    B, H, T, D = shape
    return 2 * B * H * T * T * D / 2


def note_product(g: Any, beta: float, bias: Any, alpha: Any) -> None:
    size = 0 if bias is None else bias.nbytes
    size += g.first.nbytes + g.second.nbytes + g.out.nbytes * (2 if beta else 1)
    flops, narrow = 2 * g.m * g.n * g.k, min(g.m, g.n, g.k) <= NARROW
    Array.notes.launches.append(Launch("product", size, flops, narrow))


def tinygpt_step(config: GPTConfig, B: int, make_optimizer: Callable) -> Step:
    """What a step of tinygpt launches, where it is one graph: the batch and all else that is new in
    a step comes in one copy."""
    launch.LAUNCHERS[Array], gemm.GEMMS[Array] = note_kernel, note_product
    backend.cupy = lambda: type("cupy", (), {"asarray": lambda x: np.array(x).view(Array)})
    with precision("bfloat16"), np.errstate(all="ignore"):
        model = GPT(config, device="cuda")
        optimizer = make_optimizer(model)
        notes = Array.notes = Notes()
        buffers = [getattr(optimizer, name) for name in ("data", "grad", *optimizer.state_names)]
        notes.change(sum(buffer.nbytes for buffer in buffers))
        data = batches(config, B)
        for step in range(2):  # in the first, the weights are copied for products
            notes.launches.clear()
            ids, targets = next(data)
            accumulate_gradients(model.loss, ids, targets, rng=(0, step), micro_batches=1)
            optimizer.clip_grad_norm(1.0)
            optimizer.step()
            optimizer.zero_grad()
    copies = [x for x in notes.launches if x.name == "asarray"]
    others = [x for x in notes.launches if x.name != "asarray"]
    return Step("tinygpt", [Launch("feed", sum(x.bytes for x in copies)), *others], notes.most)


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_step(config: GPTConfig, B: int) -> Step:
    """What a step of PyTorch eager launches, with FlashAttention and fused AdamW."""
    import torch
    import torch_gpt
    from torch._subclasses.fake_tensor import FakeTensorMode

    noting = torch_launches()
    with FakeTensorMode(), called_as_on_a_gpu(torch_gpt.F):
        model = torch_gpt.TorchGPT(config)
        ids = torch.zeros(B, config.block_size, dtype=torch.long)
        with noting, torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(ids, ids)
        with noting:
            loss.backward()
    weights = 4 * sum(p.numel() for p in model.parameters())
    optimizer = [Launch("norm", weights), Launch("clip", 2 * weights), Launch("adamw", 7 * weights)]
    # Gradients are among what was alive at the most; the weights and two moments come on top.
    return Step("PyTorch", noting.launches + optimizer, noting.most + 3 * weights)


@contextlib.contextmanager
def called_as_on_a_gpu(F: Any) -> Iterator[None]:
    """Has PyTorch call once on a CPU what is one call on a GPU."""
    import torch

    def attention(q, k, v, dropout_p, is_causal):  # which draws its dropout by itself
        return with_dropout_elsewhere(q, k, v, is_causal=is_causal)

    def dropout(x, p, training):
        return torch.native_dropout(x, p, training)[0] if p else x

    with_dropout_elsewhere = F.scaled_dot_product_attention
    with (
        mock.patch.object(F, "scaled_dot_product_attention", attention),
        mock.patch.object(F, "dropout", dropout),
    ):
        yield


def torch_launches() -> Any:
    """A mode of PyTorch that notes what is launched, and how many bytes are alive at the most."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def tensors(x):
        return [t for t in tree_leaves(x) if isinstance(t, torch.Tensor)]

    class Noting(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.launches: list[Launch] = []
            self.alive: dict[Any, int] = {}
            self.most = 0

        def __torch_dispatch__(self, op, types, arguments=(), options=None):
            y = op(*arguments, **(options or {}))
            for t in tensors(y):
                self.alive[StorageWeakRef(t.untyped_storage())] = t.untyped_storage().nbytes()
            self.alive = {s: size for s, size in self.alive.items() if not s.expired()}
            self.most = max(self.most, sum(self.alive.values()))
            name = op.name().removeprefix("aten::").partition(".")[0]
            view = any(r.alias_info and not r.alias_info.is_write for r in op._schema.returns)
            if tensors(y) and not view and name not in ("detach", "_unsafe_view"):
                inputs = tensors((arguments, options))
                self.launches.append(self.launch(name, inputs, tensors(y)))
                if name == "native_layer_norm_backward":  # CUDA reads dy and x again, for dw and db
                    self.launches.append(Launch(name, sum(t.nbytes for t in inputs[:2])))
            return y

        def launch(self, name, inputs, results):
            found = Launch(name, sum(t.nbytes for t in (*inputs, *results)))
            if name in ("mm", "addmm"):
                a, b = inputs[-2:]
                found.flops = 2 * a.numel() * b.shape[1]
                found.narrow = min(*a.shape, *b.shape) <= NARROW
            elif "attention" in name:
                found.attention = int("backward" in name)
                q = inputs[found.attention]  # after dy
                found.flops = (5 if found.attention else 2) * product_of_attention(q.shape)
            return found

    return Noting()


def torch_asking(config: GPTConfig) -> float:
    """Seconds that PyTorch eager needs to ask for a step: that of the same layers on one CPU core,
    so narrow that arithmetic hardly matters; a median."""
    import torch
    import torch_gpt

    torch.set_num_threads(1)
    narrow = replace(config, vocab_size=64, block_size=8, n_head=1, n_embd=32)
    model = torch_gpt.TorchGPT(narrow)
    optimizer = model.optimizer(**ADAMW)
    ids = torch.zeros(1, narrow.block_size, dtype=torch.long)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        with called_as_on_a_gpu(torch_gpt.F), torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(ids, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[WARM_UP:])


# ---- the page -----------------------------------------------------------------------------------


def row(step: Step, tokens: int) -> str:
    parts: Counter[str] = Counter()
    for x in step.launches:
        kind = "attention" if x.attention is not None else "products" if x.flops else "the rest"
        parts[kind] += x.seconds(step.side) * 1e3
    times = " | ".join(f"{parts[kind]:.2f}" for kind in ("products", "attention", "the rest"))
    return (
        f"| {step.side} | {len(step.launches)} | {times} | {step.seconds * 1e3:.2f} "
        f"| {tokens / step.seconds:,.0f} | {step.memory / 1e9:.2f} GB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args()
    print("| | launches | products, ms | attention | the rest | step | tokens/s | memory |")
    print("|---|---|---|---|---|---|---|---|")
    asking = []
    for name, (config, B) in CONFIGS.items():
        tokens = B * config.block_size
        ours = tinygpt_step(config, B, lambda model: AdamW(model.parameters(), **ADAMW))
        print(f"| **{name}** | | | | | | | |")
        print(row(ours, tokens), flush=True)
        if importlib.util.find_spec("torch") is not None:
            theirs = torch_step(config, B)
            ratios = theirs.seconds / ours.seconds, theirs.memory / ours.memory
            print(row(theirs, tokens))
            print("| PyTorch / tinygpt | | | | | {:.2f} | | {:.2f} |".format(*ratios), flush=True)
            asking.append(f"{torch_asking(config) * 1e3:.0f} ms ({name})")
    print()
    if asking:
        print(f"for PyTorch eager to ask for all launches of a step: {', '.join(asking)}")
    for preset in ("nanogpt", "best"):
        settings = script.fresh_settings({"preset": preset})
        config = GPTConfig(65, **script.model_options(settings))
        make = functools.partial(script.make_optimizer, settings=settings)
        step = tinygpt_step(config, settings["batch_size"], make)
        print(
            f"--preset {preset}: {len(step.launches)} launches and {step.seconds * 1e3:.2f} ms a "
            f"step, {settings['steps'] * step.seconds:.1f} s for its {settings['steps']} steps"
        )


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:  # ml_dtypes is missing
        sys.exit(f"error: {error}")
