"""KVCache: the keys and values of the tokens so far, so that none is computed twice."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from ..tensor import Tensor
from .config import GPTConfig


class KVCache:
    """The keys and values of every layer for the tokens so far.

    lengths (B,): how many tokens each row has seen, on the host. Rows may be of different lengths;
    places that a row has not filled yet are hidden by a mask.

    There is room for block_size tokens in each row, and token t is at place t. An endless model
    (see GPTConfig.endless) needs only what a token sees: the sinks, at the first places, and behind
    them the newest `window` tokens, in a ring: each takes the place of the one that it just cannot
    see any more. So a text goes on for ever in the same memory, and every token gets what one pass
    over all of the text gives it. (A window in some layers only saves no room: the others see all.)
    Xiao et al. 2023, "StreamingLLM", arXiv:2309.17453; Mistral 7B, arXiv:2310.06825, section 2.

    The room is made once. A product with one query reads it as it lies: q k^T is a matrix-vector
    product per head over keys (S, D), and p v one over values (S, D).
    """

    def __init__(self, config: GPTConfig, batch: int, like: Any):
        self.config = config
        self.sinks, self.ring = 0, config.block_size
        if config.endless:
            self.sinks, self.ring = config.sinks, config.window or 0
        room = self.sinks + self.ring
        shape = (config.n_layer, 2, batch, config.kv_heads, room, config.head_size)
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
        mask (B, 1, T, S), or None where rows are of one length, and a window says all there is."""
        if k.requires_grad:
            raise RuntimeError("a cache carries no gradients: use it inside `with no_grad():`")
        (B, _, T, _), starts, held = k.shape, self.starts, self.arrays[layer]
        if len(starts) == 1 and not self.config.endless:
            stop = starts[0] + T
            held[0, :, :, starts[0] : stop], held[1, :, :, starts[0] : stop] = k.data, v.data
            return Tensor(held[0, :, :, :stop]), Tensor(held[1, :, :, :stop]), None
        new, noted = np.stack([k.data, v.data]), np.arange(T)  # (2, B, G, T, D)
        stop = min(max(starts) + T, held.shape[3])
        if T > 1 and self.config.endless:  # the first of them see what the last ones replace
            if len(starts) > 1:
                raise ValueError(
                    f"this cache takes {T} tokens at once only where rows are of one length; these "
                    f"hold {starts}, so give them one at a time"
                )
            old = np.asarray(self._places(self._kept(starts[0])), like=new)
            keys, values = np.concatenate([held[:, :, :, old], new], axis=3)
            noted = self._kept(starts[0] + T) - starts[0]
            noted = noted[noted >= 0]
        else:
            keys, values = held[:, :, :, :stop]

        at = np.arange(B)[:, None], self._places(np.array(starts)[:, None] + noted)
        rows, places, noted = (np.asarray(a, like=new) for a in (*at, noted))
        held[:, rows, :, places] = new[:, :, :, noted].transpose(1, 3, 0, 2, 4)  # (B, T, 2, G, D)

        mask = None
        if len(starts) > 1:
            asked = self.lengths[:, None, None, None] + np.arange(T)[:, None]  # (B, 1, T, 1)
            window, places = self.config.window_of(layer), np.arange(stop)
            sight = places <= asked
            if window is not None and not self.config.endless:
                sight &= (places > asked - window) | (places < self.config.sinks)
            mask = np.asarray(sight, like=k.data)
        return Tensor(keys), Tensor(values), mask

    def _kept(self, length: int) -> np.ndarray:
        """Which of so many tokens there is room for, in order: the sinks and the newest."""
        tokens = np.arange(length)
        return tokens[(tokens < self.sinks) | (tokens >= length - self.ring)]

    def _places(self, tokens: np.ndarray) -> np.ndarray:
        """Where they are: sinks at the front, all others by turns behind them."""
        in_ring = self.sinks + (tokens - self.sinks) % self.ring
        return np.where(tokens < self.sinks, tokens, in_ring)

    def advance(self, T: int) -> None:
        """Count the newest T tokens of every row, once all layers have them."""
        self.lengths += T
