"""From a long row of tokens to the (ids, targets) that a model learns from.

tokens      5 7 2 9 4 1 8 ...
ids         5 7 2 9         what the model sees, block_size of them
targets       7 2 9 4       what comes next, at each place: the same row, one further
"""

from __future__ import annotations

import math
import operator
from typing import Any, TypeVar

import numpy as np

Tokens = TypeVar("Tokens", str, np.ndarray)


def split(tokens: Tokens, fraction: float = 0.1) -> tuple[Tokens, Tokens]:
    """Cut off the end for validation -> (train, validation). Text may be cut as well as tokens.

    Validation gets `fraction` of the length, rounded up. Both are views, where tokens are an array.
    """
    if not isinstance(fraction, int | float) or not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, not {fraction!r}")
    n_train = len(tokens) - math.ceil(len(tokens) * fraction)
    return tokens[:n_train], tokens[n_train:]


def windows(tokens: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """All tokens in windows side by side, to evaluate on -> ids, targets, both (n, block_size).

    Every token but the first is a target exactly once. The last window may be short: it is filled
    up with id 0 and target -1, which losses ignore.
    """
    tokens = _check_tokens(tokens)
    _check_positive("block_size", block_size)
    if len(tokens) < 2:
        raise ValueError(
            f"there are {len(tokens)} tokens, and 2 are the least: one to see and one to predict"
        )
    n_targets = len(tokens) - 1
    n = math.ceil(n_targets / block_size)
    ids = np.zeros(n * block_size, np.int64)
    targets = np.full(n * block_size, -1, np.int64)
    ids[:n_targets] = tokens[:-1]
    targets[:n_targets] = tokens[1:]
    return ids.reshape(n, block_size), targets.reshape(n, block_size)


class Loader:
    """Endless training batches: next(loader) -> ids, targets, both int64 (batch_size, block_size).

    An epoch starts at a random offset, cuts the tokens into windows side by side from there, and
    takes the windows in random order, each once. The next epoch has another offset and another
    order. A batch may end one epoch and begin the next: all batches have the same size.

    Offset and order depend on (seed, epoch) alone, so the whole state is two numbers: the epoch,
    and how many of its windows are gone. A run that goes on from a saved state sees exactly the
    batches it would have seen; batch_size may change at that point.

    tokens: a row of integers (N,), of any integer dtype; a np.memmap is read where it is needed.
    ValueError where they are too few for one window of block_size and the token after it.
    """

    def __init__(self, tokens: np.ndarray, block_size: int, batch_size: int, seed: int = 0) -> None:
        self.tokens = _check_tokens(tokens)
        _check_positive("block_size", block_size)
        _check_positive("batch_size", batch_size)
        if len(self.tokens) <= block_size:
            raise ValueError(
                f"there are {len(self.tokens):,} tokens, and block_size={block_size} needs "
                f"{block_size + 1:,} or more; try a longer text or a smaller block_size"
            )
        self.block_size = block_size
        self.batch_size = batch_size
        self.seed = operator.index(seed)
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, not {seed}")
        self.epoch = 0
        self.position = 0  # how many windows of this epoch are gone
        self._starts = self._shuffled_starts(0)

    def __iter__(self) -> Loader:
        return self

    def __next__(self) -> tuple[np.ndarray, np.ndarray]:
        places = np.empty((self.batch_size, self.block_size), np.int64)
        row = 0
        while row < self.batch_size:
            if self.position == len(self._starts):
                self.epoch += 1
                self.position = 0
                self._starts = self._shuffled_starts(self.epoch)
            taken = self._starts[self.position : self.position + self.batch_size - row]
            self.position += len(taken)
            places[row : row + len(taken)] = taken[:, None] + np.arange(self.block_size)
            row += len(taken)
        return self.tokens[places].astype(np.int64), self.tokens[places + 1].astype(np.int64)

    def _shuffled_starts(self, epoch: int) -> np.ndarray:
        """Where the windows of an epoch begin, in the order in which they are taken."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(epoch,)))
        n_offsets = min(self.block_size, len(self.tokens) - self.block_size)
        offset = rng.integers(n_offsets)
        n = (len(self.tokens) - 1 - offset) // self.block_size  # -1: the last one needs a target
        return offset + self.block_size * rng.permutation(n)

    def state_dict(self) -> dict[str, int]:
        """Where the loader is, for JSON: epoch and position, and what they are relative to."""
        return {
            "epoch": self.epoch,
            "position": self.position,
            "seed": self.seed,
            "block_size": self.block_size,
            "tokens": len(self.tokens),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go where `state` says. ValueError, and no change, where it belongs to another loader."""
        here = self.state_dict()
        if not isinstance(state, dict) or set(state) != set(here):
            raise ValueError(f"a loader's state has {', '.join(here)}; this is {state!r}")
        for key, value in state.items():
            if type(value) is not int or value < 0:
                raise ValueError(f"{key} in a loader's state must be a whole number, not {value!r}")
        for key in ("tokens", "block_size", "seed"):
            if state[key] != here[key]:
                raise ValueError(
                    f"the saved loader had {key} {state[key]}, this one has {here[key]}; "
                    "go on with the same text, block size and seed"
                )
        starts = self._shuffled_starts(state["epoch"])
        if state["position"] > len(starts):
            raise ValueError(
                f"position {state['position']} in a loader's state is beyond the {len(starts)} "
                f"windows of epoch {state['epoch']}"
            )
        self.epoch = state["epoch"]
        self.position = state["position"]
        self._starts = starts


def _check_tokens(tokens: np.ndarray) -> np.ndarray:
    if isinstance(tokens, str):
        raise TypeError("tokens must be integers, not text; encode it with a tokenizer first")
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise TypeError(
            f"tokens must be one row of integers, not an array of {tokens.dtype} "
            f"with shape {tokens.shape}"
        )
    return tokens


def _check_positive(name: str, value: int) -> None:
    if operator.index(value) < 1:
        raise ValueError(f"{name} must be 1 or more, not {value}")
