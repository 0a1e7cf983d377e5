"""Root-mean-square normalisation."""

import numpy as np


def rms_norm(x, w=None, eps=1e-5):
    """y = w * x_hat, where x_hat = x / sqrt(mean(x^2) + eps) along the last axis.

    x (..., C), w (C,) or None for 1 -> y (..., C).   Saves x_hat, w and one number per row.

    Within a row, with r = 1/rms:   d x_hat_j / d x_i = r (delta_ij - x_hat_i x_hat_j / C)
    so with dx_hat = dy * w:        dx = r (dx_hat - x_hat mean(dx_hat * x_hat))
    Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4.
    """
    C = x.shape[-1]
    r_rms = 1 / np.sqrt(np.einsum("...c,...c->...", x, x) / C + eps)[..., None]  # (..., 1)
    x_hat = x * r_rms
    y = x_hat if w is None else x_hat * w

    def backward(dy):
        dx_hat = dy if w is None else dy * w
        along = np.einsum("...c,...c->...", dx_hat, x_hat) / C  # mean(dx_hat * x_hat)
        dx = x_hat * -along[..., None]
        dx += dx_hat
        dx *= r_rms
        if w is None:
            return dx, None
        dyx = np.multiply(dy, x_hat, out=dx_hat).reshape(-1, C)
        return dx, np.ones_like(dyx, shape=len(dyx)) @ dyx

    return y, backward
