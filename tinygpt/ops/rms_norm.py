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
    average = np.full(C, 1 / C, x.dtype, like=x)
    y = x * x
    r_rms = 1 / np.sqrt(y @ average + eps)[..., None]  # (..., 1)
    x_hat = np.multiply(x, r_rms, out=y)
    if w is not None:
        y = x_hat * w

    def backward(dy):
        along = dy * x_hat
        if w is None:
            dw, dx = None, dy - x_hat * (along @ average)[..., None]
        else:
            dw = np.ones(dy.size // C, dy.dtype, like=dy) @ along.reshape(-1, C)
            dx = dy * w
            dx -= x_hat * (along @ (average * w))[..., None]
        dx *= r_rms
        return dx, dw

    return y, backward
