"""RopeScaling: slower turns, for texts longer than those a model was first trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

LLAMA3 = ("low_freq_factor", "high_freq_factor", "original_block_size")


@dataclass(frozen=True)
class RopeScaling:
    """What becomes of rope's frequencies. What cannot work is a ValueError.

    linear: all of them are divided by `factor`, so that position p turns as p / factor did (Chen et
    al. 2023, "Position interpolation", arXiv:2306.15595).

    llama3: a frequency that comes round at least `high_freq_factor` times within
    `original_block_size` tokens stays, one that comes round at most `low_freq_factor` times is
    divided by `factor`, and between the two the share that stays grows from 0 to 1 (Llama 3.1's;
    in transformers, rope_type "llama3", where original_block_size has the name
    original_max_position_embeddings).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_block_size: int | None = None

    def __post_init__(self):
        if self.kind not in ("linear", "llama3"):
            raise ValueError(f"rope_scaling's kind must be linear or llama3, not {self.kind!r}")
        for name in ("factor", *LLAMA3):
            value, wanted = getattr(self, name), name == "factor" or self.kind == "llama3"
            if not wanted and value is not None:
                raise ValueError(f"{name} is for rope_scaling of the kind llama3, not linear")
            if wanted and not (_is_number(value) and 0 < value < math.inf):
                raise ValueError(f"rope_scaling's {name} must be a number above 0, not {value!r}")
        low, high = self.low_freq_factor, self.high_freq_factor
        if low is not None and high is not None and not low < high:
            raise ValueError(f"low_freq_factor={low} must be below high_freq_factor={high}")

    @classmethod
    def of(cls, value: Any) -> RopeScaling | None:
        """A RopeScaling from one, from None, or from a dict of its fields (as JSON has it)."""
        if value is None or isinstance(value, cls):
            return value
        try:
            return cls(**value)
        except TypeError:
            raise ValueError(
                "rope_scaling must be a RopeScaling, or a dict such as "
                f'{{"kind": "linear", "factor": 2.0}}, not {value!r}'
            ) from None

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        """Frequencies in radians per token -> the scaled ones."""
        if self.kind == "linear":
            return frequencies / self.factor
        low, high, size = self.low_freq_factor, self.high_freq_factor, self.original_block_size
        assert low is not None
        assert high is not None
        assert size is not None
        rounds = size * frequencies / (2 * math.pi)
        stays = np.clip((rounds - low) / (high - low), 0, 1)
        return frequencies * (stays + (1 - stays) / self.factor)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
