"""The model card: its table adds up, its products are those that run, and so is its memory."""

import re

import numpy as np
import pytest
from small_gpt import small_gpt

from tinygpt import GPT, AdamW, GPTConfig, ops
from tinygpt import functional as F
from tinygpt.__main__ import main
from tinygpt.gpt.card import forward_flops

MODELS = {
    "gpt2": {},
    "llama": {
        "position": "rope", "norm": "rms_norm", "activation": "swiglu", "n_kv_head": 1,
        "tie_weights": False, "qk_norm": True, "qk_norm_weight": True, "head_dim": 6,
    },
    "mixture": {"n_expert": 4, "n_expert_per_token": 2, "n_inner": 5},
    "sinks": {"window": 3, "sinks": 1, "window_layers": (1,), "position": "none"},
}  # fmt: skip
every_model = pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)


def rows(card):
    """{heading: {row: number}}"""
    found = {}
    for line in card.splitlines():
        if not line.startswith(" "):
            found[line.split()[0]] = table = {}
        else:
            name, number = re.match(r"  (.+?)  +([\d,.]+)", line).groups()
            table[name] = float(number.replace(",", ""))
    return found


@every_model
def test_the_parameters_add_up_to_the_true_count(options):
    model = small_gpt(**options)
    parts = rows(model.card())["parameters"]
    together, active = parts.pop("together"), parts.pop("active per token", None)
    assert together == sum(parts.values()) == model.config.parameter_count
    assert together == sum(p.size for p in model.parameters())
    if "n_expert" in options:  # two of the four
        assert active == together - parts["experts"] / 2
    else:
        assert active is None


@every_model
def test_the_products_are_those_that_run(options, monkeypatch):
    """Counted where they happen: x @ w, and a key for each query that sees it."""
    flops = []
    linear, matmul = ops.linear, ops.matmul

    def counting_linear(x, w, b=None):
        flops.append(2 * (x.size // x.shape[-1]) * w.size)
        return linear(x, w, b)

    def counting_matmul(a, b):
        flops.append(2 * (a.size // a.shape[-1]) * b.size)
        return matmul(a, b)

    def counting(attention):
        def counting_attention(q, k, v, **options):
            T = q.shape[2]
            same = np.zeros((1, 1, T, T))  # all keys match alike, and each value names its place
            seen, _ = attention(same, same, np.eye(T)[None, None], **options)
            flops.append(4 * q.size * (seen > 0).sum() / T)
            return attention(q, k, v, **options)

        return counting_attention

    monkeypatch.setattr(F, "linear", F._lift(counting_linear))
    for attention in (ops.scaled_dot_product_attention, ops.sliding_window_attention):
        monkeypatch.setattr(ops, attention.__name__, counting(attention))
    monkeypatch.setattr("tinygpt.tensor.Tensor.__matmul__", F._lift(counting_matmul))
    model = small_gpt(**options)
    T = model.config.block_size
    model(np.arange(2 * T).reshape(2, T) % 11)
    assert sum(flops) / (2 * T) == pytest.approx(forward_flops(model), abs=1)


def test_training_and_memory():
    found = rows(small_gpt(dtype="float32", n_embd=300).card())
    again = rows(small_gpt(dtype="float32", n_embd=300, remat=True).card())
    products = found["products"]
    assert products["training"] == pytest.approx(3 * products["forward"], abs=0.3)
    assert again["products"]["training"] == pytest.approx(4 * products["forward"], abs=0.3)

    model = small_gpt(dtype="float32", n_embd=300)
    optimizer = AdamW(model.parameters())
    moments = sum(a.nbytes for a in optimizer.state_dict().values() if hasattr(a, "nbytes"))
    memory = found["memory"]
    weights = sum(p.data.nbytes for p in model.parameters()) / 1e6
    assert memory["weights"] == memory["gradients"] == pytest.approx(weights, abs=0.1)
    assert memory["AdamW's moments"] == pytest.approx(moments / 1e6, abs=0.1)
    assert memory["together"] == pytest.approx(4 * weights, abs=0.1)


def test_what_is_frozen_needs_no_gradient():
    model = small_gpt(dtype="float32", n_embd=300)
    for p in model.h[0].parameters():
        p.requires_grad = False
    memory = rows(model.card())["memory"]
    learnt = sum(p.data.nbytes for p in model.parameters() if p.requires_grad) / 1e6
    assert memory["gradients"] == pytest.approx(learnt, abs=0.1)
    assert memory["AdamW's moments"] == pytest.approx(2 * learnt, abs=0.1)


def test_from_a_terminal(tmp_path, capsys):
    model = GPT(GPTConfig(vocab_size=65, block_size=8, n_layer=1, n_head=2, n_embd=16))
    model.save(tmp_path / "best")
    assert main(["card", str(tmp_path / "best")]) == 0
    assert capsys.readouterr().out == model.card() + "\n"
    assert main(["card", str(tmp_path)]) == 1
    assert "is the folder of a run; its best model is in" in capsys.readouterr().err
