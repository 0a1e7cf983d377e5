"""Generation: one token after another, from any function that gives logits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from .backend import to_numpy
from .rng import as_generator
from .sampling import Sampling

AS_THE_MODEL_SAYS = Sampling()


def generate(
    next_logits: Callable[[np.ndarray, Any], Any],
    prompts: Any,
    max_new_tokens: int,
    block_size: int,
    sampling: Sampling = AS_THE_MODEL_SAYS,
    stop: Collection[int] = (),
    rng: Any = 0,
    cache: Any = None,
) -> Any:
    """Go on from every prompt for up to max_new_tokens. The arguments are those of `stream`.

    From an int array (B, T), an int array (B, T + new), in which a row that is done is filled up
    with the token that stopped it. From a list of B arrays (T_b,), such a list, without filling.
    """
    steps = list(
        stream(next_logits, prompts, max_new_tokens, block_size, sampling, stop, rng, cache)
    )
    new = np.array(steps, "int64").reshape(len(steps), len(prompts)).T  # (B, new)
    if not isinstance(prompts, list):
        return np.concatenate([prompts, new], axis=1)
    return [
        np.concatenate([row, _own(tokens, stop)]) for row, tokens in zip(prompts, new, strict=True)
    ]


def _own(tokens: np.ndarray, stop: Collection[int]) -> np.ndarray:
    """The tokens up to the first that is in `stop`, and that one."""
    ends = np.flatnonzero(np.isin(tokens, list(stop)))
    return tokens[: ends[0] + 1] if len(ends) else tokens


def stream(
    next_logits: Callable[[np.ndarray, Any], Any],
    prompts: Any,
    max_new_tokens: int,
    block_size: int,
    sampling: Sampling = AS_THE_MODEL_SAYS,
    stop: Collection[int] = (),
    rng: Any = 0,
    cache: Any = None,
) -> Iterator[np.ndarray]:
    """The next token of every prompt, ints (B,), then the one after it, up to max_new_tokens times.

    next_logits(ids, cache) -> logits (n, V) of the token that follows ids (n, T), for some rows of
    the batch; ids of rows of one length only are put together. Without a cache, ids are all there
    is to see. With one, such as gpt.KVCache, they are what follows the tokens it holds, and
    next_logits adds them; rows(slice) gives the cache of those rows, and clear() empties it.

    prompts: an int array (B, T), or a list of B arrays (T_b,). stop: a row that has one of these
    tokens is done, and repeats it; when all rows are done, that is the end.

    rng: an int or numpy Generator. Each row draws from a child of it (numpy's Generator.spawn), so
    what a row gets does not depend on the others: prompts one after the other, all from one
    Generator, get what they get as a batch.

    At most block_size tokens of a row are seen: when there are more, the newest half of a block is
    kept, and grows again.
    """
    if not isinstance(prompts, list) and prompts.ndim != 2:
        raise ValueError(
            f"ids must have shape (batch, time), not {prompts.shape}; for one prompt, use [ids]"
        )
    for b, prompt in enumerate(prompts):
        if prompt.ndim != 1 or len(prompt) == 0:
            raise ValueError(f"ids[{b}] must be one or more ids in a row, not {prompt.shape}")
    if not isinstance(max_new_tokens, int | np.integer):
        raise TypeError(f"max_new_tokens must be a whole number, not {max_new_tokens!r}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, not {max_new_tokens}")
    draws = as_generator(rng).spawn(len(prompts))
    rows = [_Row(prompt, block_size, draw) for prompt, draw in zip(prompts, draws, strict=True)]
    return _steps(next_logits, rows, max_new_tokens, block_size, sampling, stop, cache)


class _Row:
    """A prompt and what has come of it; ids[first:] are seen, ids[:held] are in the cache."""

    def __init__(self, prompt: np.ndarray, block_size: int, draws: np.random.Generator):
        self.ids = prompt.tolist()
        self.first = self.held = max(0, len(prompt) - block_size)
        self.draws = draws
        self.done = False


def _steps(next_logits, rows, max_new_tokens, block_size, sampling, stop, cache):
    """The loop behind `stream`."""
    for _ in range(max_new_tokens):
        for b, row in enumerate(rows):
            if len(row.ids) - row.first > block_size:
                row.first = row.held = len(row.ids) - max(1, block_size // 2)
                if cache is not None:
                    cache.rows(slice(b, b + 1)).clear()
        logits = _logits(next_logits, rows, cache)
        for row, z in zip(rows, logits, strict=True):
            if row.done:
                row.ids.append(row.ids[-1])
            else:
                row.ids.append(sampling.draw(z, row.ids, row.draws.random()))
                row.done = row.ids[-1] in stop
        yield np.array([row.ids[-1] for row in rows])
        if all(row.done for row in rows):
            return


def _logits(next_logits: Callable, rows: Sequence[_Row], cache: Any) -> np.ndarray:
    """The logits (B, V) of the next token: a call for each run of rows with as many new ids."""
    logits = []
    new = [row.ids[row.held :] for row in rows]
    for _, run in itertools.groupby(range(len(rows)), key=lambda b: len(new[b])):
        some = list(run)
        part = slice(some[0], some[-1] + 1)
        ids = np.array(new[part])
        logits.append(to_numpy(next_logits(ids, None if cache is None else cache.rows(part))))
    if cache is not None:
        for row in rows:
            row.held = len(row.ids)
    return np.concatenate(logits)
