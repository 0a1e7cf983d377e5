"""The feed-forward half of a block."""

from __future__ import annotations

from .. import functional as F
from ..nn import Linear, Module
from ..rng import Key
from ..tensor import Tensor
from .config import GPTConfig

ACTIVATIONS = {
    "gelu_tanh": F.gelu_tanh,
    "gelu": F.gelu,
    "relu": F.relu,
    "relu2": F.relu2,
    "silu": F.silu,
}
GATES = {"swiglu": F.silu, "geglu": F.gelu_tanh}  # Shazeer 2020, arXiv:2002.05202


class MLP(Module):
    """The feed-forward layer: each token by itself, through a wider layer."""

    def __init__(self, config: GPTConfig, rng, std: float, dtype):
        C, inner = config.n_embd, config.inner_size
        self.c_fc = Linear(C, (2 if config.gated else 1) * inner, rng, config.bias, dtype=dtype)
        self.c_proj = Linear(inner, C, rng, config.bias, std, dtype)
        self._config = config

    def __call__(self, x: Tensor, key: Key | None) -> Tensor:
        config = self._config
        h = self.c_fc(x)  # (B, T, inner), or (B, T, 2 inner) with a gate
        if config.gated:
            gate, up = F.split(h, sizes=(config.inner_size, config.inner_size))
            h = GATES[config.activation](gate) * up
        else:
            h = ACTIVATIONS[config.activation](h)
        return F.dropout(self.c_proj(h), config.dropout, key and key.fold(2))
