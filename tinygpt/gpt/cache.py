"""KVCache: the keys and values of the tokens so far, so that none is computed twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tensor import Tensor
from .config import GPTConfig


class KVCache:
    """The keys and values of every layer for the tokens so far: room for block_size of them."""

    def __init__(self, config: GPTConfig, batch: int, like: Any):
        shape = (config.n_layer, 2, batch, config.kv_heads, config.block_size, config.head_size)
        self.arrays = np.empty(shape, like.dtype, like=like)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Note k and v (B, G, T, D) of the newest tokens; return those of all, (B, G, S, D)."""
        if k.requires_grad:
            raise RuntimeError("a cache carries no gradients: use it inside `with no_grad():`")
        stop = self.length + k.shape[2]
        keys, values = self.arrays[layer]
        keys[:, :, self.length : stop] = k.data
        values[:, :, self.length : stop] = v.data
        return Tensor(keys[:, :, :stop]), Tensor(values[:, :, :stop])
