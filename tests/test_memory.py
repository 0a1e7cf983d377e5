"""The estimate of memory: what is saved, op by op, and the peak of a process that trains."""

import importlib
import json
import subprocess
import sys
import tracemalloc
from dataclasses import asdict

import numpy as np
import pytest

from tinygpt import GPT, GPTConfig, accumulate_gradients, memory, parallel
from tinygpt.graph import trace

SMALL = {"vocab_size": 13, "block_size": 80, "n_layer": 3, "n_head": 4, "n_embd": 32}
OPTIONS = [
    {},
    {"bias": False, "activation": "gelu"},
    {"activation": "relu"},
    {"activation": "relu2", "position": "rope", "qk_norm": True, "norm": "rms_norm"},
    {"activation": "silu", "position": "none", "n_kv_head": 2},
    {"activation": "swiglu", "position": "rope", "n_kv_head": 1, "bias": False},
    {"activation": "geglu"},
    {"qk_norm": True, "tie_weights": False},
    {"dropout": 0.2},
    {"head_dim": 12, "n_kv_head": 2, "position": "rope"},
    {"qk_norm": True, "qk_norm_weight": True},
    {"qk_norm": True, "qk_norm_weight": True, "position": "rope", "n_kv_head": 1},
    {"window": 10, "dropout": 0.2},
    {"window": 10, "window_layers": (0,)},
    {"window": 10, "sinks": 3},
    {"window": 10, "sinks": 3, "position": "rope", "n_kv_head": 2},
    {"window": 77, "sinks": 3, "position": "rope"},
    {"n_expert": 4},
    {"n_expert": 5, "n_expert_per_token": 3, "activation": "swiglu", "dropout": 0.2},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_what_a_block_saves(options):
    """The arrays that backward mentions: each layer more adds what the formula says."""
    ids = np.random.default_rng(0).integers(0, 13, (2, 80))
    saved = []
    for layers in (1, 2):
        model = GPT(GPTConfig(**{**SMALL, **options, "n_layer": layers}))
        names = dict(model.named_parameters())
        saved.append(trace(model.loss(ids, ids, rng=0), **names).saved_bytes)
    formula = memory.saved_by_block(model.config, 80, layer=1) * ids.size
    assert formula == pytest.approx(saved[1] - saved[0], rel=0.02)


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (10, 0), (10, 3), (60, 10), (999, 3)])
def test_the_keys_that_blocks_of_queries_meet(window, sinks, monkeypatch):
    """Counted where they are met: in attention to those in sight."""
    module = importlib.import_module("tinygpt.ops.sliding_window_attention")
    attention, counts = module.scaled_dot_product_attention, []
    x = np.zeros((1, 1, 150, 1))

    def counting(q, k, v, *arguments, **options):
        S = k.shape[2]
        counts.append((q.shape[2] * S, 0 if np.shares_memory(k, x) else S))
        return attention(q, k, v, *arguments, **options)

    monkeypatch.setattr(module, "scaled_dot_product_attention", counting)
    module.sliding_window_attention(x, x, x, window, sinks)
    found = memory.keys_met(150, window, sinks)
    assert found == tuple(np.sum(counts, axis=0) / 150)


def test_layers_with_a_window_save_less():
    sizes = [
        memory.training_memory(GPTConfig(**SMALL, **options), 1)["activations"]
        for options in ({}, {"window": 2, "window_layers": (0, 2)}, {"window": 2})
    ]
    assert sizes[0] - sizes[1] == pytest.approx(2 / 3 * (sizes[0] - sizes[2]))


def test_small_parameters(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 1500)
    for options in OPTIONS:
        model = GPT(GPTConfig(**{**SMALL, **options}))
        small = sum(p.size for p in model.parameters() if p.size < 1500)
        assert memory.small_parameters(model.config) == small


TINY = {
    "vocab_size": 5, "block_size": 64, "n_layer": 1, "n_head": 1, "n_embd": 16, "n_inner": 8,
    "activation": "relu",
}  # fmt: skip
LOPSIDED = {  # in each, one part of the estimate is most of it
    "what enters each block": {"remat": True, "n_layer": 30, "block_size": 256},
    "the block computed again": {
        "remat": True, "n_layer": 2, "n_head": 8, "block_size": 512,
        "window": 1, "window_layers": (1,),
    },
    "temporaries": {"n_inner": 1024},
    "temporaries of an expert": {"n_inner": 1024, "n_expert": 8, "n_expert_per_token": 1},
    "logits": {"vocab_size": 2000},
    "a head in parts": {"vocab_size": 20_000, "block_size": 4},
    "the widest matrix": {"n_embd": 600, "block_size": 4},
    "small parameters": {"n_embd": 64, "n_layer": 20, "block_size": 4},
}  # fmt: skip


@pytest.mark.parametrize("options", LOPSIDED.values(), ids=LOPSIDED)
def test_what_numpy_allocates_in_a_step(options, monkeypatch):
    """At its peak about what the estimate says, which is meant for whole, and larger, runs."""
    monkeypatch.setattr(memory, "threads", lambda: 1)
    monkeypatch.setattr(parallel, "threads", lambda: 1)
    model = GPT(GPTConfig(**{**TINY, **options}))
    for p in model.parameters():
        p.grad = np.zeros_like(p.data)
    ids = np.arange(model.config.block_size)[None] % 5
    tracemalloc.start()
    try:
        accumulate_gradients(model.loss, ids, ids)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    parts = list(memory.training_memory(model.config, 1).values())
    assert 2 / 3 < peak / sum(parts[4:]) < 3 / 2


def test_it_counts_what_runs_at_once(monkeypatch):
    config = GPTConfig(**{**SMALL, "block_size": 128})
    sizes = {}
    for threads in (1, 2, 4):
        monkeypatch.setattr(memory, "threads", lambda n=threads: n)
        monkeypatch.setattr(parallel, "threads", lambda n=threads: n)
        sizes[threads] = memory.training_memory(config, batch_size=64)
        small = "gradients of small parameters, by thread"
        for what in (small, "activations", "logits and temporaries"):
            assert sizes[threads][what] == threads * sizes[1][what]
    longer = GPTConfig(**{**SMALL, "block_size": 256})
    activations = [
        memory.training_memory(*arguments)["activations"]  # on four threads
        for arguments in [(config, 1), (config, 4), (config, 5), (config, 8), (longer, 8, 128)]
    ]
    one = activations[0]
    assert activations == [one, 4 * one, 8 * one, 8 * one, 8 * one]  # by the piece with most rows
    sgd = memory.training_memory(config, batch_size=64, moments=1)
    assert sgd["moments of the optimizer"] == 4 * config.parameter_count
    assert sum(sizes[4].values()) - sum(sgd.values()) == 4 * config.parameter_count


TRAIN = r"""
import json, re, sys
import numpy as np
from tinygpt import GPT, GPTConfig, AdamW, accumulate_gradients
options, B = json.loads(sys.argv[1])
config = GPTConfig(**options)
model = GPT(config)
optimizer = AdamW(model.parameters())
rng = np.random.default_rng(0)
for step in range(2):
    ids, targets = rng.integers(0, config.vocab_size, (2, B, config.block_size))
    accumulate_gradients(model.loss, ids, targets, rng=(0, step))
    optimizer.clip_grad_norm(1.0)
    optimizer.step()
    optimizer.zero_grad()
# VmHWM is of this process; the peak of getrusage begins with that of the process that started it.
print(re.search(r"VmHWM:\s+(\d+) kB", open("/proc/self/status").read())[1])
"""


def check_peak(config, B):
    """A few steps in a process of their own take what the estimate says, within 15 %."""
    arguments = json.dumps([asdict(config), B])
    result = subprocess.run(
        [sys.executable, "-c", TRAIN, arguments], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    estimate = sum(memory.training_memory(config, B).values())
    measured = int(result.stdout) * 1024
    print(f"estimate {estimate / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB")
    assert estimate == pytest.approx(measured, rel=0.15)


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
CPU = {"vocab_size": 65, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128}
DEFAULT = CPU | {
    "bias": False, "position": "rope", "norm": "rms_norm", "activation": "relu2", "qk_norm": True,
}  # fmt: skip
LARGER = CPU | {"block_size": 256, "n_layer": 6, "n_head": 6, "n_embd": 384, "activation": "gelu"}


@linux
@pytest.mark.parametrize(
    ("options", "B"),
    [
        (DEFAULT, 12),
        pytest.param(CPU, 12, marks=pytest.mark.slow),
        (CPU | {"activation": "swiglu", "n_layer": 2, "n_inner": 2048, "remat": True}, 16),
        (CPU | {"n_expert": 4, "n_inner": 256}, 12),
        (
            CPU | {"block_size": 512, "window": 64, "sinks": 4, "position": "rope", "head_dim": 48},
            2,
        ),
    ],
)
def test_the_peak_of_small_models(options, B, monkeypatch):
    """On one thread: two reach their peaks together, as the estimate has it, if neither waits."""
    monkeypatch.setenv("TINYGPT_THREADS", "1")  # for the process; this one has asked already
    monkeypatch.setattr(memory, "threads", lambda: 1)
    monkeypatch.setattr(parallel, "threads", lambda: 1)
    check_peak(GPTConfig(**options), B)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("B", [16, 64])
def test_the_peak_at_10_million_parameters(B, dropout, remat):
    check_peak(GPTConfig(**LARGER, bias=False, dropout=dropout, remat=remat), B)


@linux
@pytest.mark.slow
def test_the_peak_of_gpt2():
    check_peak(GPTConfig(block_size=256), 2)
