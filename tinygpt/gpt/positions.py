"""What a model is told of where each token stands."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..ops.rope import rope_tables
from .config import GPTConfig


@functools.lru_cache(maxsize=16)
def position_tables(
    config: GPTConfig, starts: tuple[int, ...], T: int, dtype: Any
) -> tuple[np.ndarray, ...]:
    """What the positions of T tokens say: from starts[0] on in all rows, or starts[b] in row b.

    rope: cos and sin (T, D / 2), or (B, 1, T, D / 2); sinusoidal: a table (T, C), or (B, T, C);
    else none.
    """
    several = len(starts) > 1
    positions = token_positions(starts, T).reshape(-1)
    if config.position == "rope":
        tables = rope_tables(positions, config.head_size, config.rope_base, dtype)
        if several:
            return tuple(table.reshape(len(starts), 1, T, -1) for table in tables)
        return tables
    if config.position == "sinusoidal":  # Vaswani et al. 2017, arXiv:1706.03762, section 3.5
        table = np.empty((len(positions), config.n_embd), dtype)
        table[:, 1::2], table[:, 0::2] = rope_tables(positions, config.n_embd, dtype=dtype)
        return (table.reshape(len(starts), T, -1) if several else table,)
    return ()


def token_positions(starts: tuple[int, ...], T: int) -> np.ndarray:
    """starts[b] .. starts[b] + T - 1 for each start, (len(starts), T)."""
    return np.array(starts)[:, None] + np.arange(T)
