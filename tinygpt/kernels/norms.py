"""Layer and root-mean-square normalisation: kernels in cuda/layer_norm.cu and cuda/rms_norm.cu."""

from __future__ import annotations

import numpy as np

from .. import ops
from .launch import ceil, contiguous, launch, stored
from .sums import ROWS, sum_parts

WARPS = 4  # rows in a block, a warp each


def layer_norm(x, w, b=None, eps=1e-5):
    """The twin of ops.layer_norm. Saves x, w and two numbers per row."""
    C = x.shape[-1]
    if not stored(x, w, b) or C % 4:
        return ops.layer_norm(x, w, b, eps)
    x, N = contiguous(x), x.size // C
    y = np.empty_like(x)
    mean, r_std = np.empty(N, "float32", like=x), np.empty(N, "float32", like=x)
    grid = (ceil(N, WARPS),), (32 * WARPS,)
    launch("layer_norm.cu", "layer_norm_forward", x, *grid, (y, mean, r_std, x, w, b, eps, N, C))

    def backward(dy):
        dy, dx = contiguous(dy), np.empty_like(x)
        saved = (mean, r_std, N, C)
        launch("layer_norm.cu", "layer_norm_backward", x, *grid, (dx, dy, x, w, *saved))
        parts = np.empty((ceil(N, ROWS), 2, C), "float32", like=x)
        launch(
            "layer_norm.cu", "layer_norm_backward_weight", x,
            (ceil(C, 32), len(parts)), (32, 8), (parts, dy, x, *saved),
        )  # fmt: skip
        dw, db = sum_parts(parts, w)
        return dx, dw, None if b is None else db

    return y, backward


def rms_norm(x, w=None, eps=1e-5):
    """The twin of ops.rms_norm. Saves x, w and one number per row."""
    C = x.shape[-1]
    if not stored(x, w) or C % 4:
        return ops.rms_norm(x, w, eps)
    x, N = contiguous(x), x.size // C
    y, r_rms = np.empty_like(x), np.empty(N, "float32", like=x)
    grid = (ceil(N, WARPS),), (32 * WARPS,)
    launch("rms_norm.cu", "rms_norm_forward", x, *grid, (y, r_rms, x, w, eps, N, C))

    def backward(dy):
        dy, dx = contiguous(dy), np.empty_like(x)
        saved = (r_rms, N, C)
        launch("rms_norm.cu", "rms_norm_backward", x, *grid, (dx, dy, x, w, *saved))
        if w is None:
            return dx, None
        parts = np.empty((ceil(N, ROWS), C), "float32", like=x)
        launch(
            "rms_norm.cu", "rms_norm_backward_weight", x,
            (ceil(C, 32), len(parts)), (32, 8), (parts, dy, x, *saved),
        )  # fmt: skip
        return dx, sum_parts(parts, w)

    return y, backward
