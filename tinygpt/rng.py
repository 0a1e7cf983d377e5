"""Randomness as an argument: the key that says which random numbers are meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np


@dataclass(frozen=True)
class Key:
    """Names a stream of random numbers. The same key always means the same numbers.

    words: ints, such as (seed, step, layer); row: where in the whole batch this part of it begins,
    so that a micro-batch draws what its rows draw in the whole.
    """

    words: tuple[int, ...]
    row: int = 0

    def fold(self, *words: int) -> Key:
        """The key of a place further in: a layer of the model, a spot in the layer."""
        return Key((*self.words, *words), self.row)

    def part(self, row: int) -> Key:
        """The same key, for the part of the batch that begins at `row`."""
        return Key(self.words, self.row + row)


Rng: TypeAlias = "int | tuple[int, ...] | np.random.Generator | Key | None"  # what users may give


class NoWeights:
    """In the place of a generator, for a model whose weights are about to be loaded.

    Weights drawn from it take neither time nor memory, so that all can be checked before anything
    is allocated. They are read-only; `nn.make_room` gives them memory.
    """

    def normal(self, loc=0.0, scale=1.0, size=()):
        return np.broadcast_to(np.float32(0), size).view(_NoMemory)


class _NoMemory(np.ndarray):
    """One number in every place; of another dtype it still is one number."""

    def astype(self, dtype, *_, **__):  # type: ignore[override]
        return np.broadcast_to(np.zeros((), dtype), self.shape)


def as_generator(rng: Any) -> np.random.Generator:
    """A numpy Generator from an int, or the one that was given. ValueError for anything else."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise ValueError(
            f"rng must be an int from 0 up or a numpy Generator, not {rng!r}"
        ) from None


def as_key(rng: Rng) -> Key | None:
    """A Key from what a user gave: an int, a tuple of ints such as (seed, step), a numpy Generator
    (one seed is drawn from it), or None, which stays None. Ints are 0 or more: ValueError
    otherwise.
    """
    if rng is None or isinstance(rng, Key):
        return rng
    if isinstance(rng, np.random.Generator):
        return Key((int(rng.integers(2**63)),))
    words = rng if isinstance(rng, tuple) else (rng,)
    if not all(isinstance(word, int | np.integer) and word >= 0 for word in words):
        raise ValueError(
            f"rng must be an int from 0 up, a tuple of such ints or a numpy Generator, not {rng!r}"
        )
    return Key(tuple(int(word) for word in words))
