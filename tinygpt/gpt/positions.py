"""What a model is told of where each token stands."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..ops.rope import rope_tables
from .config import GPTConfig


@functools.lru_cache(maxsize=16)
def position_tables(config: GPTConfig, start: int, stop: int, dtype: Any) -> tuple[np.ndarray, ...]:
    """Rows start .. stop of what the positions say, T of them. rope: cos and sin (T, D / 2);
    sinusoidal: a table (T, C); else none."""
    positions = np.arange(start, stop)
    if config.position == "rope":
        return rope_tables(
            positions, config.head_size, config.rope_base, dtype, config.rope_scaling
        )
    if config.position == "sinusoidal":  # Vaswani et al. 2017, arXiv:1706.03762, section 3.5
        table = np.empty((len(positions), config.n_embd), dtype)
        table[:, 1::2], table[:, 0::2] = rope_tables(positions, config.n_embd, dtype=dtype)
        return (table,)
    return ()
