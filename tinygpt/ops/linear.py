"""A linear layer."""

import numpy as np


def linear(x, w, b=None):
    """y = x @ w + b.

    x (..., K), w (K, N), b (N,) or None -> y (..., N).   Saves x and w.

    y_rn = sum_k x_rk w_kn + b_n, so      dx_rk = sum_n dy_rn w_kn      (dy @ w^T)
                                          dw_kn = sum_r x_rk dy_rn      (x^T @ dy)
                                          db_n  = sum_r dy_rn

    `needs` says which gradients are wanted: dx and dw cost a product each.
    """
    rows = x.reshape(-1, x.shape[-1])  # (R, K): one product, not one per batch entry
    y = rows @ w  # (R, N)
    if b is not None:
        y += b

    def backward(dy, needs=(True, True, True)):
        dy = dy.reshape(-1, dy.shape[-1])  # (R, N)
        dx = (dy @ w.T).reshape(x.shape) if needs[0] else None
        dw = rows.T @ dy if needs[1] else None
        # A sum over rows is a product with ones, and BLAS is faster at it than np.sum.
        db = None if b is None else np.ones_like(dy, shape=len(dy)) @ dy
        return dx, dw, db

    return y.reshape(*x.shape[:-1], w.shape[1]), backward
