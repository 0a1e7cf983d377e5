"""KVCache: the keys and values of the tokens so far, so that none is computed twice."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..tensor import Tensor
from .config import GPTConfig


class KVCache:
    """The keys and values of every layer for the tokens so far: room for block_size in each row.

    lengths (B,): how many tokens each row holds, on the host. Token t of a row is at place t, so
    rows may be of different lengths; what is behind a row's last token is hidden by a mask.

    The room is made once. A product with one query reads it as it lies: q k^T is a matrix-vector
    product per head over keys (S, D), and p v one over values (S, D).
    """

    def __init__(self, config: GPTConfig, batch: int, like: Any):
        self.config = config
        shape = (config.n_layer, 2, batch, config.kv_heads, config.block_size, config.head_size)
        self.arrays = np.zeros(shape, like.dtype, like=like)  # zeros: 0 times what is hidden is 0
        self.lengths = np.zeros(batch, "int64")

    def rows(self, part: slice) -> KVCache:
        """These rows as a cache of their own; what is added to it is added here."""
        some = copy.copy(self)
        some.arrays = self.arrays[:, :, part]
        some.lengths = self.lengths[part]
        return some

    def clear(self) -> None:
        """Forget all tokens."""
        self.lengths[:] = 0

    @property
    def starts(self) -> tuple[int, ...]:
        """Where the next token of each row stands: one number if it is the same for all rows."""
        starts = tuple(self.lengths.tolist())
        return starts[:1] if len(set(starts)) == 1 else starts

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Any]:
        """Note k and v (B, G, T, D) of the newest tokens; return those of all, (B, G, S, D), and a
        mask (B, 1, T, S), or None where causal attention needs none: in rows of one length."""
        if k.requires_grad:
            raise RuntimeError("a cache carries no gradients: use it inside `with no_grad():`")
        T, starts = k.shape[2], self.starts
        stop = max(starts) + T
        keys, values = self.arrays[layer]
        for b, start in enumerate(starts):
            rows = slice(b, b + 1) if len(starts) > 1 else slice(None)
            keys[rows, :, start : start + T] = k.data[rows]
            values[rows, :, start : start + T] = v.data[rows]
        mask = None
        if len(starts) > 1:
            asked = self.lengths[:, None, None, None] + np.arange(T)[:, None]  # (B, 1, T, 1)
            places, window = np.arange(stop), self.config.window_of(layer)
            sight = places <= asked
            if window is not None:
                sight &= (places > asked - window) | (places < self.config.sinks)
            mask = np.asarray(sight, like=k.data)
        return Tensor(keys[:, :, :stop]), Tensor(values[:, :, :stop]), mask

    def advance(self, T: int) -> None:
        """Count the newest T tokens of every row, once all layers have them."""
        self.lengths += T
