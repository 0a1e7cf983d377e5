"""examples/train_shakespeare.py as a module, and what two of its runs must have in common."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from tinygpt import GPT, checkpoint

SCRIPT = Path(__file__).parents[1] / "examples" / "train_shakespeare.py"
TINY = [
    "--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "8", "--batch-size", "6",
    "--steps", "20", "--eval-interval", "5", "--dropout", "0.1", "--device", "cpu",
]  # fmt: skip
TIMES = {"tokens_per_second", "elapsed_seconds"}


def load_script(file=SCRIPT):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def quick_ends(monkeypatch):
    """Runs end with a few characters and no picture: the rest takes longer than they do."""
    generate = GPT.generate
    monkeypatch.setattr(GPT, "generate", lambda self, ids, n, **how: generate(self, ids, 9, **how))
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def write_text(folder):
    """A file to learn from: 400 words, all of them ASCII. -> its path"""
    words = np.random.default_rng(0).choice(["to be", "or not", "that is,", "the question\n"], 400)
    file = folder / "text.txt"
    file.write_text(" ".join(words), encoding="utf-8")
    return str(file)


def read_log(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def without_times(entries):
    return [{k: v for k, v in entry.items() if k not in TIMES} for entry in entries]


def assert_same_end(one, other):
    """The same log but for times, the same weights and optimizer to the last bit."""
    assert without_times(read_log(one)) == without_times(read_log(other))
    (a, _, step_a), (b, _, step_b) = (checkpoint.load(f / "checkpoint") for f in (one, other))
    assert step_a == step_b
    for group in ("model", "optimizer"):
        assert a[group].keys() == b[group].keys()
        for name in a[group]:
            np.testing.assert_array_equal(a[group][name], b[group][name], err_msg=name)
