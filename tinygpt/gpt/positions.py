"""What a model is told of where each token stands.

Learned and sinusoidal positions are added to the embedding of a token, once. Rotary ones turn
queries and keys, so that a product of the two depends on how far apart they stand, t - s.

Attention sinks (StreamingLLM: Xiao et al. 2023, arXiv:2309.17453, section 3.2) stand right before
the window, wherever that is: token t sees sink s at the distance it would have in a cache that
holds the sinks and a window, and drops what is in between:

    min(t, sinks + window - 1) - s      instead of      t - s

So no distance exceeds that cache, however long the text. In the formula only the query changes: it
meets the sinks turned for position min(t, sinks + window - 1), and all other keys turned for t.
Keys are turned for their own positions, once, and can be kept as they are: a rolling cache of
sinks + window entries computes what no cache computes. (Below sinks + window tokens, min(t, ...) is
t, and nothing is different.) Positions that are added to embeddings know nothing of this.
"""

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

    rope: cos and sin (T, D / 2), or (B, 1, T, D / 2), and two more for queries that meet sinks,
    where those differ; sinusoidal: a table (T, C), or (B, T, C); else none.
    """
    several = len(starts) > 1
    positions = token_positions(starts, T).reshape(-1)
    if config.position == "rope":
        D, base, scaling = config.head_size, config.rope_base, config.rope_scaling
        tables = rope_tables(positions, D, base, dtype, scaling)
        farthest = config.sinks + (config.window or 0) - 1
        if config.sinks and positions.max() > farthest:
            tables += rope_tables(np.minimum(positions, farthest), D, base, dtype, scaling)
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
