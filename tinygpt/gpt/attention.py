"""The attention half of a block: projections, heads, positions, cache."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from ..nn import Linear, Module, RMSNorm
from ..rng import Key
from ..tensor import Tensor
from .cache import KVCache
from .config import GPTConfig


class Attention(Module):
    """Causal self-attention: each token takes from those before it what it asks for."""

    def __init__(self, config: GPTConfig, rng, std: float, dtype):
        C, D, heads = config.n_embd, config.head_size, config.n_head + 2 * config.kv_heads
        self.c_attn = Linear(C, heads * D, rng, config.has_qkv_bias, dtype=dtype)
        if config.qk_norm_weight:
            self.q_norm = RMSNorm(D, config.norm_eps, dtype)
            self.k_norm = RMSNorm(D, config.norm_eps, dtype)
        self.c_proj = Linear(config.n_head * D, C, rng, config.bias, std, dtype)
        self._config = config

    def __call__(self, x, turn, key: Key | None, cache: KVCache | None, layer: int) -> Tensor:
        config = self._config
        B, T, _ = x.shape
        H, G, D = config.n_head, config.kv_heads, config.head_size
        heads = self.c_attn(x).reshape(B, T, H + 2 * G, D)
        q, k, v = F.split(heads, sizes=(H, G, G), axis=2)
        q = q.transpose(0, 2, 1, 3)  # (B, H, T, D)
        k = k.transpose(0, 2, 1, 3)  # (B, G, T, D)
        v = v.transpose(0, 2, 1, 3)  # (B, G, T, D)
        if config.qk_norm_weight:
            q, k = self.q_norm(q), self.k_norm(k)
        elif config.qk_norm:
            q, k = (F.rms_norm(a, None, eps=config.norm_eps) for a in (q, k))
        window = config.window_of(layer)
        sinks = config.sinks if window is not None else 0
        q_sinks = F.rope(q, *turn[2:]) if sinks and turn[2:] else None  # see positions.py
        if turn:
            q, k = F.rope(q, *turn[:2]), F.rope(k, *turn[:2])
        mask = None
        if cache is not None:
            k, v, mask = cache.extend(layer, k, v)
        if q_sinks is not None:
            q, k = _ask_sinks_apart(q, q_sinks, k, sinks)
        scale, rng = 1 / math.sqrt(D), key and key.fold(0)
        options: dict[str, Any] = {"scale": scale, "dropout_p": config.dropout, "rng": rng}
        if window is None or mask is not None:
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, **options)
        else:
            y = F.sliding_window_attention(q, k, v, window, sinks, **options)
        y = y.transpose(0, 2, 1, 3).reshape(B, T, H * D)
        return F.dropout(self.c_proj(y), config.dropout, key and key.fold(1))


def _ask_sinks_apart(q, q_sinks, k, sinks: int) -> tuple[Tensor, Tensor]:
    """q and k with 2 D features. Sinks have their own in the second half and zeros in the first,
    other keys the reverse: so sinks meet q_sinks, and the others q."""
    is_sink = np.arange(k.shape[2], like=k.data)[:, None] < sinks  # (S, 1)
    zeros = np.zeros_like(k.data)
    k = F.concatenate([F.where(is_sink, zeros, k), F.where(is_sink, k, zeros)], axis=-1)
    return F.concatenate([q, q_sinks], axis=-1), k
