"""The head of a language model and its loss, in one."""

import numpy as np

PART = 2048  # rows of dw at a time


def linear_cross_entropy(x, w, targets, ignore_index=-1):
    """loss = cross_entropy(x @ w^T, targets), with one copy of the logits, worked on in place.

    x (..., C), w (V, C), targets (...) ints, or ignore_index -> loss (), in nats per target.
    Saves x, w, one array (N, V) and one number per row.

    From cross_entropy, with e = e^(logits - max), its row sums t and n targets:
        dlogits = dloss / n * (e / t - one_hot)  =  dloss / (n t) * (e - t one_hot)
    so e, with t subtracted at the targets, is dlogits but for a factor per row. And a factor per
    row can wait for the products, where the matrices are small:
        dx = dlogits @ w     = factor * (e @ w)
        dw = dlogits^T @ x   = e^T @ (factor * x)
    `in_parts`: dw as (where, numbers) pairs, PART rows at a time, each computed when its turn
    comes: a whole dw of GPT-2's is 154 MB.
    """
    V, C = w.shape
    rows, ids = x.reshape(-1, C), targets.reshape(-1)  # (N, C), (N,)
    counted = (ids != ignore_index).astype(x.dtype)
    n = np.maximum(counted.sum(), 1)
    at = np.arange(len(ids), like=ids), np.where(ids == ignore_index, 0, ids)

    e = rows @ w.T  # (N, V): the logits
    e -= e.max(axis=-1, keepdims=True)
    z_target = e[at]
    np.exp(e, out=e)
    total = e @ np.ones_like(e, shape=V)  # (N,)
    loss = ((np.log(total) - z_target) * counted).sum() / n
    e[at] -= total  # e - t one_hot

    def backward(dloss, needs=(True, True), in_parts=False):
        factor = (counted * (dloss / n) / total)[:, None]  # (N, 1)
        dx = ((e @ w) * factor).reshape(x.shape) if needs[0] else None
        scaled = rows * factor
        if in_parts:
            return dx, dw_parts(scaled), None
        return dx, e.T @ scaled if needs[1] else None, None

    def dw_parts(scaled):
        for start in range(0, V, PART):
            part = slice(start, start + PART)
            yield part, e[:, part].T @ scaled

    return loss, backward
