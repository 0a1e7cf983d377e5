"""Cross-entropy, and a head with it: the kernel in cuda/cross_entropy.cu."""

from __future__ import annotations

import numpy as np

from .. import ops
from .gemm import gemm, gradient, product
from .launch import ceil, contiguous, empty, launch, shared_memory, stored
from .precision import for_products


def cross_entropy(logits, targets, ignore_index=-1):
    """The twin of ops.cross_entropy. Saves dlogits."""
    if not stored(logits) or targets.dtype != "int64":
        return ops.cross_entropy(logits, targets, ignore_index)
    logits = contiguous(logits)
    loss, n, dlogits = _cross_entropy(empty(logits), logits, targets, ignore_index)

    def backward(dloss):
        return dlogits * (dloss / n).astype(dlogits.dtype, copy=False), None

    return loss, backward


def linear_cross_entropy(x, w, targets, ignore_index=-1):
    """The twin of ops.linear_cross_entropy. Saves x, w and one array (N, V), whose rows begin at
    multiples of 16 bytes, where the fast products of 16 bits want them."""
    if not stored(x) or not stored(w) or targets.dtype != "int64":
        return ops.linear_cross_entropy(x, w, targets, ignore_index)
    shape, dtypes = x.shape, (x.dtype, w.dtype)
    rows, w = for_products(x.reshape(-1, shape[-1])), for_products(w)  # (N, C), (V, C)
    (N, V), apart = (len(rows), len(w)), 16 // rows.itemsize
    logits = empty(rows, (N, ceil(V, apart) * apart))[:, :V]
    gemm(rows, w.T, logits)
    loss, n, dlogits = _cross_entropy(logits, logits, targets, ignore_index)

    def backward(dloss, needs=(True, True, True), to_leaf=(False, False, False)):
        scale = (dloss / n).astype("float32", copy=False)
        dx = dw = None
        if needs[0]:
            dx = product(dlogits, w, dtypes[0], alpha=scale).reshape(shape)
        if needs[1]:
            dw = gradient(dlogits.T, rows, dtypes[1], to_leaf[1], scale)
        return dx, dw, None

    return loss, backward


def _cross_entropy(dlogits, logits, targets, ignore_index):
    """The loss, the number n of targets that count, and dlogits, which still lack dloss / n."""
    V, step = logits.shape[-1], logits.strides[-2] // logits.itemsize if logits.ndim > 1 else 0
    targets = contiguous(targets)
    losses = empty(logits, (targets.size,), "float32")
    mean = empty(logits, (2,), "float32")
    row = V * logits.itemsize
    keeps = row <= shared_memory(logits) // 2  # so that a processor has two blocks at a time
    launch(
        "cross_entropy.cu", "cross_entropy", logits, (targets.size,), (32 if V <= 1024 else 1024,),
        (dlogits, losses, logits, targets, np.int64(ignore_index), V, step, int(keeps)),
        shared=row if keeps else 0,
    )  # fmt: skip
    arguments = (mean, losses, targets, np.int64(ignore_index), targets.size)
    launch("cross_entropy.cu", "mean_loss", logits, (1,), (1024,), arguments)
    loss, n = mean[:1].reshape(()), mean[1:].reshape(())
    return loss, n, dlogits
