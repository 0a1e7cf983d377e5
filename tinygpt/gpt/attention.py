"""The attention half of a block: projections, heads, positions, cache."""

from __future__ import annotations

from .. import functional as F
from ..nn import Linear, Module
from ..rng import Key
from ..tensor import Tensor
from .cache import KVCache
from .config import GPTConfig


class Attention(Module):
    """Causal self-attention: each token takes from those before it what it asks for."""

    def __init__(self, config: GPTConfig, rng, std: float, dtype):
        C, D = config.n_embd, config.head_size
        self.c_attn = Linear(C, C + 2 * config.kv_heads * D, rng, config.bias, dtype=dtype)
        self.c_proj = Linear(C, C, rng, config.bias, std, dtype)
        self._config = config

    def __call__(self, x, turn, key: Key | None, cache: KVCache | None, layer: int) -> Tensor:
        config = self._config
        B, T, C = x.shape
        H, G, D = config.n_head, config.kv_heads, config.head_size
        heads = self.c_attn(x).reshape(B, T, H + 2 * G, D)
        q, k, v = F.split(heads, sizes=(H, G, G), axis=2)
        q = q.transpose(0, 2, 1, 3)  # (B, H, T, D)
        k = k.transpose(0, 2, 1, 3)  # (B, G, T, D)
        v = v.transpose(0, 2, 1, 3)  # (B, G, T, D)
        if config.qk_norm:
            q, k = F.rms_norm(q, None), F.rms_norm(k, None)
        if turn is not None:
            q, k = F.rope(q, *turn), F.rope(k, *turn)
        mask = None
        if cache is not None:
            k, v, mask = cache.extend(layer, k, v)
        y = F.scaled_dot_product_attention(
            q, k, v, mask, config.dropout, is_causal=mask is None, rng=key and key.fold(0)
        )
        y = y.transpose(0, 2, 1, 3).reshape(B, T, C)
        return F.dropout(self.c_proj(y), config.dropout, key and key.fold(1))
