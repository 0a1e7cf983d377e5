"""Generation: one token after another, from any function that gives logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import to_numpy
from .rng import as_generator


def generate(
    next_logits: Callable[[np.ndarray, Any], tuple[Any, Any]],
    ids: np.ndarray,
    max_new_tokens: int,
    block_size: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: int | None = None,
    rng: Any = 0,
    use_cache: bool = True,
) -> np.ndarray:
    """Go on from ids (B, T) -> int array (B, T + new), new <= max_new_tokens.

    next_logits(ids, cache) -> (logits (B, V) of the token that follows, cache): with cache None,
    ids are all there is to see; otherwise they follow what the cache holds. Without use_cache it is
    always called with everything, and gives the same tokens.

    temperature: 0 takes the likeliest token, 1 samples as the model says. top_k, top_p: sample only
    from the k likeliest, from the fewest that hold a share p. stop: a row that has this token is
    done, and is filled up with it; generation ends when all rows are done. rng: an int or numpy
    Generator.

    At most block_size tokens are seen: when there are more, the newest half of a block is kept, and
    grows again.
    """
    if ids.ndim != 2:
        raise ValueError(
            f"ids must have shape (batch, time), not {ids.shape}; for one, use ids[None]"
        )
    for name, value in (("max_new_tokens", max_new_tokens), ("top_k", top_k)):
        if value is not None and not isinstance(value, int | np.integer):
            raise TypeError(f"{name} must be a whole number, not {value!r}")
    for name, number in (("temperature", temperature), ("top_p", top_p)):
        if number is not None and not isinstance(number, int | float | np.number):
            raise TypeError(f"{name} must be a number, not {number!r}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, not {max_new_tokens}")
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, not {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, not {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {top_p}")
    rng = as_generator(rng)
    done = np.zeros(len(ids), bool)
    seen, cache = ids[:, -block_size:], None
    fresh = seen  # what the cache does not hold yet

    for _ in range(max_new_tokens):
        logits, cache = next_logits(fresh, cache) if use_cache else next_logits(seen, None)
        token = sample(to_numpy(logits), temperature, top_k, top_p, rng)  # (B,)
        if stop is not None:
            token = np.where(done, stop, token)
            done |= token == stop
        ids = np.concatenate([ids, token[:, None]], axis=1)
        seen = np.concatenate([seen, token[:, None]], axis=1)
        fresh = seen[:, -1:]
        if done.all():
            break
        if seen.shape[1] > block_size:
            seen = seen[:, -max(1, block_size // 2) :]
            fresh, cache = seen, None
    return ids


def sample(
    logits: np.ndarray,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: Any = 0,
) -> np.ndarray:
    """Draw a token for each row: logits (B, V) -> ids (B,). The options are those of `generate`."""
    rng = as_generator(rng)
    if np.isnan(logits).any():
        raise ValueError("the model's logits are not numbers (nan), so there is nothing to choose")
    if temperature == 0:
        return logits.argmax(axis=-1)
    z = logits.astype("float64")
    with np.errstate(over="ignore"):  # towards -inf, for temperatures near 0
        z = (z - z.max(axis=-1, keepdims=True)) / temperature
    order = np.argsort(-z, axis=-1, kind="stable")  # likeliest first
    p = np.exp(np.take_along_axis(z, order, axis=-1))
    if top_k is not None:
        p[:, top_k:] = 0
    if top_p is not None:
        before = np.cumsum(p, axis=-1) - p  # the share of the likelier ones
        p[before >= top_p * p.sum(axis=-1, keepdims=True)] = 0
    upto = np.cumsum(p, axis=-1)
    u = rng.random((len(p), 1)) * upto[:, -1:]
    place = np.minimum(
        (upto <= u).sum(axis=-1, keepdims=True), (p > 0).sum(axis=-1, keepdims=True) - 1
    )
    return np.take_along_axis(order, place, axis=-1)[:, 0]
