"""Sums in a fixed order: kernels in cuda/sums.cu."""

from __future__ import annotations

import numpy as np

from .launch import ceil, contiguous, launch

ROWS = 256  # of which a block adds up each column, as in the kernels


def sum_parts(parts, like):
    """parts (P, ...) -> their sum (...), in the dtype of `like`, always in the same order."""
    y = np.empty(parts.shape[1:], like.dtype, like=like)
    launch("sums.cu", "sum_parts", y, (ceil(y.size, 256),), (256,), (y, parts, len(parts), y.size))
    return y


def column_sums(x, like):
    """The sums of the columns of x (N, C), in the dtype of `like`."""
    N, C = x.shape
    parts = np.empty((ceil(N, ROWS), C), "float32", like=x)
    grid = (ceil(C, 32), len(parts)), (32, 8)
    launch("sums.cu", "column_sums", x, *grid, (parts, contiguous(x), N, C))
    return sum_parts(parts, like)


def square_sum(x):
    """The sum of x_i^2, a 0-d array."""
    blocks = min(ceil(x.size, 256), 512)
    sums = np.empty((blocks, 1), "float32", like=x)
    launch("sums.cu", "square_sums", x, (blocks,), (256,), (sums, x, np.int64(x.size)))
    return sum_parts(sums, sums).reshape(())
