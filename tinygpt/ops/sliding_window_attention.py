"""Attention with a sliding window: each query sees the nearest keys, and the very first ones."""

import math

import numpy as np

from .scaled_dot_product_attention import BLOCK, scaled_dot_product_attention


def sliding_window_attention(
    q, k, v, window, sinks=0, scale=None, dropout_p=0.0, rng=None, first=0
):
    """y = softmax(scale q k^T, over the last `window` keys and the first `sinks`) v.

    q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) -> y (B, H, T, E), with S at least T: query t
    stands where key j = t + S - T is, and sees key s if j - window < s <= j, or s <= j and
    s < sinks.   Saves what attention saves, for the keys in sight; with sinks, copies of these.

    Queries go in blocks, and each block is attention over the few keys that it sees: work and
    memory grow with T * window. A block takes some rows of q, k and v, so its gradients belong to
    these rows; what several blocks take gets the sum:
        dq[rows] = dq_block        dk[keys] += dk_block        dv[keys] += dv_block

    dropout_p: as in attention. rng: a tuple of ints; each block folds its place into it. first: the
    number of row 0 of q in the whole batch.
    Windows: Jiang et al. 2023, "Mistral 7B", arXiv:2310.06825, section 2. Sinks: Xiao et al. 2023,
    "StreamingLLM", arXiv:2309.17453, section 3.2.
    """
    (B, H, T, D), (S, E) = q.shape, v.shape[2:]
    scale = 1 / math.sqrt(D) if scale is None else scale
    y = np.empty_like(q, shape=(B, H, T, E))
    saved = []  # for each block of queries: rows, keys, how gradients go back through it
    for start in range(0, T, BLOCK):
        rows = slice(start, min(start + BLOCK, T))
        j = np.arange(start, rows.stop, like=q)[:, None] + S - T  # where these queries stand
        begin, end = start + S - T - window + 1, rows.stop + S - T
        begin = begin if begin > sinks else 0  # no gap: the sinks and the others side by side
        keys, s = slice(begin, end), np.arange(begin, end, like=q)
        if sinks and begin:
            keys = s = np.concatenate([np.arange(sinks, like=q), s])
        in_sight = (s <= j) & ((s > j - window) | (s < sinks))
        y[:, :, rows], block_backward = scaled_dot_product_attention(
            q[:, :, rows], k[:, :, keys], v[:, :, keys], in_sight, scale=scale,
            dropout_p=dropout_p, rng=rng and (*rng, start), first=first * H * in_sight.size,
        )  # fmt: skip
        saved.append((rows, keys, block_backward))

    def backward(dy):
        dq, dk, dv = np.empty_like(dy, shape=(B, H, T, D)), np.zeros_like(k), np.zeros_like(v)
        for rows, keys, block_backward in saved:
            dq[:, :, rows], dk_block, dv_block = block_backward(dy[:, :, rows])
            dk[:, :, keys] += dk_block
            dv[:, :, keys] += dv_block
        return dq, dk, dv

    return y, backward
