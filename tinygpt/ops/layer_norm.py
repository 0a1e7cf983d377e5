"""Layer normalisation."""

import numpy as np


def layer_norm(x, w, b=None, eps=1e-5):
    """y = w * x_hat + b, where x_hat is x with mean 0 and variance 1 along its last axis.

    x (..., C), w (C,), b (C,) or None -> y (..., C).   Saves x_hat, w and one number per row.

    Within a row, with r = 1/std:   d x_hat_j / d x_i = r (delta_ij - 1/C - x_hat_i x_hat_j / C)
    so with dx_hat = dy * w:        dx = r (dx_hat - mean(dx_hat) - x_hat mean(dx_hat * x_hat))
    Ba, Kiros & Hinton 2016, arXiv:1607.06450, eq. 3.

    Sums are products with a vector: BLAS is faster at them than np.sum.
    """
    shape, C = x.shape, x.shape[-1]
    rows = x.reshape(-1, C)  # (N, C)
    average = np.full_like(x, 1 / C, shape=C)
    x_hat = rows - (rows @ average)[:, None]
    r_std = 1 / np.sqrt(np.einsum("nc,nc->n", x_hat, x_hat) / C + eps)[:, None]  # (N, 1)
    x_hat *= r_std
    y = x_hat * w
    if b is not None:
        y += b

    def backward(dy):
        dy = dy.reshape(-1, C)
        ones = np.ones_like(dy, shape=len(dy))
        dx = dy * x_hat  # for now: y = w * x_hat + b
        dw = ones @ dx
        db = None if b is None else ones @ dy
        mean = (dy @ w / C)[:, None]  # mean(dx_hat), row by row
        along = (dx @ w / C)[:, None]  # mean(dx_hat * x_hat)
        np.multiply(dy, w, out=dx)
        dx -= mean
        dx -= x_hat * along
        dx *= r_std
        return dx.reshape(shape), dw, db

    return y.reshape(shape), backward
