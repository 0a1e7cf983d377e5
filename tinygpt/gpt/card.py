"""A model card: what a model holds, what a token costs, and the memory that training takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .config import GPTConfig

if TYPE_CHECKING:
    from .model import GPT

PARTS = {  # part: what is in the names of its parameters; the first that fits counts
    "token embedding": "wte.",
    "positions": "wpe.",
    "attention": ".attn.",
    "routers": ".mlp.router.",
    "experts": ".mlp.experts.",
    "feed-forward": ".mlp.",
    "norms": "ln_",
    "head": "lm_head.",
}


def card(model: GPT) -> str:
    """The card of a model, as text."""
    config, parameters = model.config, dict(model.named_parameters())
    sizes = dict.fromkeys(PARTS, 0)
    for name, p in parameters.items():
        sizes[next(part for part, piece in PARTS.items() if piece in name)] += p.size
    total = sum(sizes.values())
    lines = ["parameters"]
    for part, size in sizes.items():
        if size:
            lines.append(f"  {part:16}{size:>18,}  {size / total:6.1%}")
    lines.append(f"  {'together':16}{total:>18,}")
    active = total - _idle_per_token(config, sizes["experts"])
    if active != total:
        lines.append(f"  {'active per token':16}{active:>18,}  {active / total:6.1%}")

    forward = forward_flops(model)
    training = forward * (4 if config.remat else 3)  # backward is two products for each of forward
    lines += [
        f"products per token, at {config.block_size:,} tokens",
        f"  {'forward':16}{forward / 1e6:>18,.1f} MFLOP",
        f"  {'training':16}{training / 1e6:>18,.1f} MFLOP",
    ]

    weights = sum(p.data.nbytes for p in parameters.values())
    learnt = sum(p.data.nbytes for p in parameters.values() if p.requires_grad)
    memory = {"weights": weights, "gradients": learnt, "AdamW's moments": 2 * learnt}
    memory["together"] = sum(memory.values())
    lines.append(f"memory in {model.wte.weight.dtype}, without what a step computes")
    lines += [f"  {name:16}{size / 1e6:>18,.1f} MB" for name, size in memory.items()]
    return "\n".join(lines)


def forward_flops(model: GPT) -> int:
    """Of the matrix products per token, in a text of block_size tokens; x @ w (K, N) is 2 K N.

    Lookups cost none, the head is a product whether tied or not, and of the experts those count
    that a token takes. A query meets the keys that it sees, each for its score and for its value:
    4 n_head head_size per key.
    """
    config = model.config
    named = model.named_parameters()
    matrices = {name: p.size for name, p in named if p.ndim == 2 and not p.is_table}
    experts = sum(size for name, size in matrices.items() if ".experts." in name)
    weights = sum(matrices.values()) - _idle_per_token(config, experts)
    weights += config.vocab_size * config.n_embd
    keys = sum(_mean_keys(config, layer) for layer in range(config.n_layer))
    return round(2 * weights + 4 * config.n_head * config.head_size * keys)


def _idle_per_token(config: GPTConfig, experts: int) -> int:
    """Of so many numbers in the experts, those that one token has nothing to do with."""
    if config.n_expert is None:
        return 0
    return experts // config.n_expert * (config.n_expert - config.n_expert_per_token)


def _mean_keys(config: GPTConfig, layer: int) -> float:
    """How many keys a query of this layer sees, over all positions of a text of block_size."""
    before, window = np.arange(1, config.block_size + 1), config.window_of(layer)
    if window is not None:
        before = np.minimum(before, window) + np.clip(before - window, 0, config.sinks)
    return float(before.mean())
