"""Attention: every query takes a mean of the values, weighted by how well it matches their keys."""

import math

import numpy as np

from .dropout import keep_mask

BLOCK = 64  # queries: few enough to skip most hidden keys, enough for fast products


def scaled_dot_product_attention(
    q, k, v, attn_mask=None, is_causal=False, scale=None, dropout_p=0.0, rng=None, first=0
):
    """y = softmax(scale q k^T, where allowed) v.

    q (B, H, T, D), k (B, G, S, D), v (B, G, S, E) -> y (B, H, T, E); each of the G key heads serves
    R = H / G query heads. T and S at least 1.   Saves q, k, v, y and p.

    Causal: query t sees key s if s <= t + S - T, so the last query sees every key. attn_mask
    broadcasts to (B, H, T, S), True where attention is allowed. A query that sees nothing gets 0.
    scale is 1 / sqrt(D) unless given. dropout_p, rng and first are those of `dropout`, for the
    weights.

    With s = scale q k^T, p = softmax(s), y = p v:
        dv = p^T dy              dp = dy v^T
        ds = p * (dp - delta)    delta_t = sum_j dp_tj p_tj = dy_t . y_t      (softmax's rule)
        dq = scale ds k          dk = scale ds^T q
    With dropout, y = (p * m) v for a mask m: then dp = (dy v^T) * m, and delta is still dy_t . y_t.
    Vaswani et al. 2017, arXiv:1706.03762, eq. 1; delta: Dao et al. 2022, arXiv:2205.14135, B.2.

    Queries go in blocks. A causal block meets only the keys that it may see: half the work.
    """
    (B, H, T, D), (G, S, E) = q.shape, v.shape[1:]
    R, offset = H // G, S - T  # query 0 stands where key `offset` stands
    scale = 1 / math.sqrt(D) if scale is None else scale
    lowest = float(np.finfo(q.dtype).min)
    ones = np.ones_like(q, shape=(S, 1))

    # Query heads that share keys are grouped: in a product they are only more rows, R * n of them.
    y = np.empty_like(q, shape=(B, H, T, E))
    qs, ys = q.reshape(B, G, R, T, D), y.reshape(B, G, R, T, E)
    kT = k.swapaxes(-1, -2)  # (B, G, D, S)
    if T > 1:
        kT = _times(scale, kT)
    else:
        qs = qs * scale  # one query: less than all keys
    is_causal = is_causal and T > 1  # one query is the last, and sees every key
    if attn_mask is not None:
        attn_mask = np.broadcast_to(attn_mask, (B, H, T, S)).reshape(B, G, R, T, S)
    if dropout_p:
        kept = keep_mask((B, H, T, S), dropout_p, rng, first, like=q).reshape(B, G, R, T, S)

    def drop(p, rows, keys):
        """p * m, for p (B, G, R * n, keys) and the mask m of dropout."""
        if not dropout_p:
            return p
        dropped = kept[:, :, :, rows, keys].astype(p.dtype).reshape(p.shape)
        dropped *= p
        dropped *= 1 / (1 - dropout_p)
        return dropped

    saved = []  # for each block of queries: rows, keys, p
    for start in range(0, T, BLOCK):
        stop = min(start + BLOCK, T)
        seen = max(1, min(stop + offset, S)) if is_causal else S
        rows, keys, n = slice(start, stop), slice(0, seen), stop - start

        s = qs[:, :, :, rows].reshape(B, G, R * n, D) @ kT[..., keys]  # (B, G, R * n, seen)
        s = s.reshape(B, G, R, n, seen)
        if is_causal:
            edge = max(0, start + offset)  # every query of the block sees the keys before this one
            allowed = np.tri(n, seen - edge, start + offset - edge, dtype=bool, like=q)
            s[..., edge:] += np.where(allowed, 0.0, -math.inf).astype(q.dtype)
        if attn_mask is not None:
            s = np.where(attn_mask[:, :, :, rows, keys], s, -math.inf)

        # argmax, because max is slow on rows this short. Finite also where nothing is seen.
        s = s.reshape(-1, seen)  # (B * H * n, seen)
        largest = s[np.arange(len(s), like=s), s.argmax(axis=-1)]
        s -= np.maximum(largest, lowest)[:, None]
        p = np.exp(s, out=s).reshape(B, G, R * n, seen)
        p /= np.maximum(p @ ones[keys], 1)  # the sum is at least e^0 where a key is seen
        ys[:, :, :, rows] = (drop(p, rows, keys) @ v[:, :, keys]).reshape(B, G, R, n, E)
        saved.append((rows, keys, p))

    def backward(dy):
        dq = np.empty_like(q)
        dqs, dys = dq.reshape(B, G, R, T, D), dy.reshape(B, G, R, T, E)
        qs = q.reshape(B, G, R, T, D)
        vT = _times(scale, v.swapaxes(-1, -2))  # (B, G, E, S)
        for rows, keys, p in reversed(saved):
            tall = p.shape[:3]  # (B, G, R * n)
            dy_block = dys[:, :, :, rows].reshape(*tall, E)
            y_block = ys[:, :, :, rows].reshape(*tall, E)
            q_block = qs[:, :, :, rows].reshape(*tall, D)
            ds = drop(dy_block @ vT[..., keys], rows, keys)
            ds -= (dy_block * y_block) @ (scale * ones[:1].repeat(E, 0))  # delta
            ds *= p  # times scale, which vT and delta have
            dqs[:, :, :, rows] = (ds @ k[:, :, keys]).reshape(B, G, R, -1, D)
            dk_block = ds.swapaxes(-1, -2) @ q_block
            dv_block = drop(p, rows, keys).swapaxes(-1, -2) @ dy_block
            if rows.stop == T:  # the last block comes first, and meets every key
                dk, dv = dk_block, dv_block
            else:
                dk[:, :, keys] += dk_block
                dv[:, :, keys] += dv_block
        return dq, dk, dv

    return y, backward


def _times(scale, a):
    """scale * a, contiguous: small products like it."""
    return np.multiply(a, scale, out=np.empty_like(a, order="C"))
