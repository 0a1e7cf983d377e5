"""Cross-entropy: how surprised a model is by what came."""

import numpy as np


def cross_entropy(logits, targets, ignore_index=-1):
    """loss = mean over the targets of -log softmax(logits)[target], in nats.

    logits (..., V), targets (...) ints in 0 .. V-1, or ignore_index -> loss ().   Saves e^logits,
    one number per row, and the targets.

    With p = softmax(logits), a row's loss is log sum_j e^(z_j) - z_target, whose gradient is
    p_j - delta_{j, target}. A mean over n targets, so
        dlogits = dloss / n * (p - one_hot(target)),   0 in rows whose target is ignored
    A loss over no target at all is 0.
    """
    shape, V = logits.shape, logits.shape[-1]
    rows, ids = logits.reshape(-1, V), targets.reshape(-1)  # (N, V), (N,)
    counted = (ids != ignore_index).astype(logits.dtype)
    n = np.maximum(counted.sum(), 1)
    at = np.arange(len(ids), like=ids), np.where(ids == ignore_index, 0, ids)

    e = rows - rows.max(axis=-1, keepdims=True)
    z_target = e[at]
    np.exp(e, out=e)
    total = e @ np.ones_like(e, shape=V)  # (N,)
    loss = ((np.log(total) - z_target) * counted).sum() / n

    def backward(dloss):
        scale = counted * (dloss / n)  # (N,)
        dlogits = e * (scale / total)[:, None]
        dlogits[at] -= scale
        return dlogits.reshape(shape), None

    return loss, backward
