"""Scoring: how likely a text is to a model, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import one_blas_thread, thread_map, threads, to_numpy

TOKENS = 512  # at once on a thread, unless a window is longer
ROWS = 128  # of logits whose probabilities are worked out at once: a few megabytes


def score(
    logits: Callable[[np.ndarray], Any], ids: np.ndarray, block_size: int, stride: int | None = None
) -> np.ndarray:
    """log p of every token but the first, given those before it: ids (N,) -> (N - 1,), in nats.

    logits(ids (n, T)) -> (n, T, V), the logits of what follows each token, T at most block_size.

    A longer text is seen through windows of block_size tokens that begin `stride` apart (half a
    block unless given). Each token is scored once: in the first window that reaches it. So each has
    at least block_size - stride tokens before it (all there are, where these are fewer), and never
    more than block_size. A stride of block_size is quickest, and unfair to the first tokens of each
    window; a stride of 1 gives each token all that the model can see.
    """
    stride = max(1, block_size // 2) if stride is None else stride
    if not isinstance(stride, int | np.integer):
        raise TypeError(f"stride must be a whole number, not {stride!r}")
    if not 1 <= stride <= block_size:
        raise ValueError(f"stride must be between 1 and block_size={block_size}, not {stride}")
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(
            f"ids to score must be two or more in a row, not of shape {ids.shape}; the first has "
            "nothing before it, and is not scored"
        )
    seen, targets = ids[:-1], ids[1:]
    result = np.empty(len(targets))

    def work(groups: list[np.ndarray]) -> None:
        """Score what is new in windows that begin at these places."""
        for starts in groups:
            new = 0 if starts[0] == 0 else block_size - stride
            T = min(block_size, len(seen) - starts[0])
            places = starts[:, None] + np.arange(T)  # (n, T)
            z = logits(seen[places])[:, new:]
            result[places[:, new:]] = _log_p(z, targets[places[:, new:]])

    groups = _groups(len(seen), block_size, stride)
    n = min(threads(), len(groups))
    if n == 1:  # nothing to share out: the products may use every core themselves
        work(groups)
    else:
        with one_blas_thread():
            thread_map(work, [groups[i::n] for i in range(n)])
    return result


def _groups(N: int, block_size: int, stride: int) -> list[np.ndarray]:
    """Where windows begin, those of one length together: the first, full ones, a short last one."""
    starts = np.arange(0, max(1, N - block_size + stride), stride)
    full = int((starts[1:] + block_size <= N).sum()) + 1
    together = max(1, TOKENS // block_size)
    cuts = [*range(1, full, together), full]
    return [group for group in np.split(starts, cuts) if len(group)]


def _log_p(z: Any, targets: np.ndarray) -> np.ndarray:
    """log softmax(z) at the targets: z (n, T, V), targets (n, T) -> (n, T)."""
    shape, z, targets = targets.shape, z.reshape(-1, z.shape[-1]), targets.reshape(-1)
    parts = []
    for start in range(0, len(targets), ROWS):
        rows = z[start : start + ROWS]
        wanted = np.asarray(targets[start : start + ROWS, None], like=rows)
        rows = rows - rows.max(axis=-1, keepdims=True)
        right = np.take_along_axis(rows, wanted, axis=-1)[:, 0]
        parts.append(to_numpy(right - np.log(np.exp(rows).sum(axis=-1))))
    return np.concatenate(parts).reshape(shape)
