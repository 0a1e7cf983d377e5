"""The batch, cut into micro-batches: each core runs forward and backward of whole pieces by itself.

Ops stay single-threaded and small enough for a core's cache, and nothing waits inside a step. The
same cut serves gradient accumulation: more pieces than threads only means that each thread runs
several.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import as_array, keep_freed_memory, one_blas_thread, thread_map, threads
from .gather import GatheredInTurn, Turns, deliver_to_leaf, gather_gradients
from .rng import Rng, as_key
from .tensor import no_grad

TOKENS = 512  # in a piece: enough for full-speed products, few enough for the cache
FEWEST = 128  # below this, threads mostly wait for each other and for the interpreter lock


def accumulate_gradients(
    loss: Callable,
    ids: Any,
    targets: Any,
    rng: Rng = None,
    micro_batches: int | None = None,
    loss_scale: Any = None,
) -> np.ndarray:
    """Add to p.grad the gradient of loss(ids, targets), computed in micro-batches on every core.

    loss(ids, targets, rng=...) -> a scalar Tensor, the mean over the targets that are not -1; ids
    and targets (B, T). Returns that mean over the whole batch, a 0-d array. loss_scale: a 0-d array
    to multiply the gradient by.

    The result does not depend on the cut, up to rounding: each piece weighs as much as its share of
    the targets that count, a piece without any is skipped (a batch without any is a ValueError),
    and rng goes to each piece together with its place in the batch. For a given cut and number of
    threads it is the same to the last bit, since each thread has its own pieces and the sums have
    an order. After an exception, the gradients of large parameters (see gather.py), and on a
    GPU of all, may hold a part of the sum.
    """

    def forward_and_backward(thread, pieces):
        total = 0.0
        try:
            with gather_gradients(GatheredInTurn(turns, thread)) as gradients:
                for share, arguments, options in pieces:
                    mean = loss(*arguments, **options)
                    mean.backward(share if loss_scale is None else loss_scale * share)
                    total = total + mean.data * share
        finally:
            turns.leave(thread)
        return total, gradients

    keep_freed_memory()
    shares = _cut(ids, targets, rng, micro_batches)
    turns = Turns(len(shares))
    results = _on_every_core(forward_and_backward, shares)

    def add(leaves):
        for leaf in leaves:
            for _, gradients in results:
                if leaf in gradients:
                    deliver_to_leaf(leaf, gradients[leaf])

    leaves = list(dict.fromkeys(leaf for _, gradients in results for leaf in gradients))
    n = len(results)  # as many threads as before: on a GPU one, which has one queue for all
    thread_map(add, [leaves[i::n] for i in range(n)])
    return as_array(sum(total for total, _ in results))


def evaluate(
    loss: Callable, ids: Any, targets: Any, rng: Rng = None, micro_batches: int | None = None
) -> np.ndarray:
    """loss(ids, targets) as accumulate_gradients computes it, without any gradient."""

    def forward(_, pieces):
        total = 0.0
        with no_grad():
            for share, arguments, options in pieces:
                total = total + loss(*arguments, **options).data * share
        return total

    shares = _cut(ids, targets, rng, micro_batches)
    return as_array(sum(_on_every_core(forward, shares)))


def micro_batch_count(B: int, T: int) -> int:
    """Into how many pieces a batch (B, T) is cut: a multiple of the threads, of about TOKENS tokens
    each, but never more than it has rows, nor into pieces of less than FEWEST tokens. A fixed
    formula, so that runs can be repeated."""
    rounds = max(1, round(B * T / (TOKENS * threads())))
    return max(1, min(B, rounds * threads(), B * T // FEWEST))


def _cut(ids: Any, targets: Any, rng: Rng, pieces: int | None) -> list[list]:
    """The batch in pieces: for each thread, a list of (share, arguments, options)."""
    ids, targets = (a if hasattr(a, "dtype") else np.asarray(a) for a in (ids, targets))
    if ids.shape != targets.shape or ids.ndim != 2:
        raise ValueError(
            f"ids and targets must both have shape (batch, time), not {ids.shape}, {targets.shape}"
        )
    B, T = ids.shape
    pieces = micro_batch_count(B, T) if pieces is None else pieces
    if not 1 <= pieces <= B:
        raise ValueError(f"micro_batches must be between 1 and the batch size {B}, not {pieces}")
    counted = (targets != -1).sum(axis=1)  # (B,)
    total = int(counted.sum())
    if total == 0:
        raise ValueError("every target is -1: there is nothing to learn from this batch")
    key = as_key(rng)

    cut = []
    bounds = [B * i // pieces for i in range(pieces + 1)]
    for start, stop in itertools.pairwise(bounds):
        share = int(counted[start:stop].sum()) / total
        options = {} if key is None else {"rng": key.part(start)}
        if share > 0:
            cut.append((share, (ids[start:stop], targets[start:stop]), options))
    n = min(threads(), len(cut))
    return [cut[i::n] for i in range(n)]


def _on_every_core(work: Callable, shares: list[list]) -> list:
    """[work(i, shares[i]) for every i], each on a thread of its own."""
    if len(shares) == 1:  # nothing to share out: the products may use every core themselves
        return [work(0, shares[0])]
    with one_blas_thread():
        return thread_map(lambda i: work(i, shares[i]), range(len(shares)))
