"""Sampling: how the next token is drawn from a model's logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. What cannot be is a ValueError or TypeError.

    First the logits change:
        repetition_penalty  of tokens that were there before, a logit above 0 is divided by it, one
                            below 0 multiplied (CTRL: Keskar et al. 2019, arXiv:1909.05858, section
                            4.1, where both are divided, which would favour those below 0)
        temperature         all are divided by it; 0 takes the likeliest token
    then, of the probabilities p, some become 0, in this order:
        top_k    all but the k largest
        top_p    all but the fewest that hold a share top_p of what top_k left (nucleus sampling:
                 Holtzman et al. 2019, arXiv:1904.09751, eq. 2)
        min_p    those below min_p times the largest (Nguyen et al. 2024, arXiv:2407.01082, eq. 2)
    Among equal ones the lower id counts as the larger.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self):
        if self.top_k is not None and not isinstance(self.top_k, int | np.integer):
            raise TypeError(f"top_k must be a whole number, not {self.top_k!r}")
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            value = getattr(self, name)
            optional = name in ("top_p", "min_p") and value is None
            if not optional and not isinstance(value, int | float | np.number):
                raise TypeError(f"{name} must be a number, not {value!r}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be at least 0, not {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, not {value}")
        if not 0 < self.repetition_penalty < np.inf:
            raise ValueError(f"repetition_penalty must be above 0, not {self.repetition_penalty}")

    def draw(self, logits: np.ndarray, before: Any, u: float) -> int:
        """The token at u of the way, 0 <= u < 1, when the probabilities are laid end to end."""
        if self.temperature == 0:
            return self._changed(logits, before)[1]
        upto = np.cumsum(self.probabilities(logits, before))
        # For u up to 1 - 2^-53, as random() gives it, u times a sum is below it, rounded too.
        return int(np.searchsorted(upto, u * upto[-1], side="right"))

    def probabilities(self, logits: np.ndarray, before: Any = ()) -> np.ndarray:
        """logits (V,) and the ids of the tokens so far -> (V,), float64, the largest being 1."""
        z, likeliest = self._changed(logits, before)
        if self.temperature == 0:
            p = np.zeros(len(z))
            p[likeliest] = 1
            return p
        z = np.subtract(z, z[likeliest], dtype="float64")
        with np.errstate(over="ignore"):  # towards -inf, for temperatures near 0
            z /= self.temperature
        p = np.exp(z, out=z)
        if self.top_k is not None:
            _keep_largest(p, self.top_k)
        if self.top_p is not None:
            upto = np.cumsum(np.sort(p[p > 0])[::-1])
            _keep_largest(p, 1 + int(np.searchsorted(upto, self.top_p * upto[-1])))
        if self.min_p is not None:
            p[p < self.min_p] = 0
        return p

    def _changed(self, logits: np.ndarray, before: Any) -> tuple[np.ndarray, int]:
        """The logits with the penalty, and the likeliest token."""
        z = logits
        if self.repetition_penalty != 1:
            z = np.array(logits, "float64")
            penalised = np.unique(np.asarray(before, "int64"))
            value = z[penalised]
            penalty = np.where(value > 0, 1 / self.repetition_penalty, self.repetition_penalty)
            z[penalised] = value * penalty
        likeliest = int(z.argmax())  # of a nan, where there is one
        if not np.isfinite(z[likeliest]):
            raise ValueError(
                f"the model's largest logit is {z[likeliest]}, so there is nothing to choose"
            )
        return z, likeliest


def _keep_largest(p: np.ndarray, k: int) -> None:
    """Set all but the k largest to 0. They need no sorting, only the k-th has to be found."""
    if k >= len(p):
        return
    least = np.partition(p, -k)[-k]
    p[p < least] = 0
    equal = np.flatnonzero(p == least)
    p[equal[k - np.count_nonzero(p > least) :]] = 0
