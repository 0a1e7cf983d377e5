"""Cross-entropy, and a head with it: the kernel in cuda/cross_entropy.cu."""

from __future__ import annotations

import numpy as np

from .. import ops
from .launch import contiguous, launch, stored


def cross_entropy(logits, targets, ignore_index=-1):
    """The twin of ops.cross_entropy. Saves dlogits."""
    if not stored(logits) or targets.dtype != "int64":
        return ops.cross_entropy(logits, targets, ignore_index)
    logits = contiguous(logits)
    loss, n, dlogits = _cross_entropy(np.empty_like(logits), logits, targets, ignore_index)

    def backward(dloss):
        return dlogits * (dloss / n).astype(dlogits.dtype), None

    return loss, backward


def linear_cross_entropy(x, w, targets, ignore_index=-1):
    """The twin of ops.linear_cross_entropy. Saves x, w and one array (N, V)."""
    if not stored(x, w) or targets.dtype != "int64":
        return ops.linear_cross_entropy(x, w, targets, ignore_index)
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    logits = contiguous(_product(rows, w.T))  # (N, V)
    loss, n, dlogits = _cross_entropy(logits, logits, targets, ignore_index)

    def backward(dloss, needs=(True, True)):
        scale = (dloss / n).astype(x.dtype)
        dx = (_product(dlogits, w) * scale).reshape(x.shape) if needs[0] else None
        dw = _product(dlogits.T, rows * scale) if needs[1] else None
        return dx, dw, None

    return loss, backward


def _product(a, b):
    """a @ b, stored like a."""
    return (a @ b).astype(a.dtype, copy=False)


def _cross_entropy(dlogits, logits, targets, ignore_index):
    """The loss, the number n of targets that count, and dlogits, which still lack dloss / n."""
    V = logits.shape[-1]
    targets = contiguous(targets)
    losses = np.empty(targets.size, "float32", like=logits)
    n = np.maximum((targets != ignore_index).sum(), 1).astype("float32")
    launch(
        "cross_entropy.cu", "cross_entropy", logits, (targets.size,), (32 if V <= 1024 else 1024,),
        (dlogits, losses, logits, targets, np.int64(ignore_index), V),
    )  # fmt: skip
    return losses.sum() / n, n, dlogits
