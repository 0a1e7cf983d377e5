"""Sums in a fixed order: kernels in cuda/sums.cu."""

from __future__ import annotations

import numpy as np

from .launch import ceil, contiguous, empty, launch

ROWS = 256  # of which a block adds up each column, as in the kernels


def sum_parts(parts, like, to_leaf=False):
    """parts (P, C) -> their sum (C,), in the dtype of `like`, always in the same order; for a leaf,
    a function that adds it to an array (C,)."""
    P, C = parts.shape
    step = parts.strides[0] // parts.itemsize

    def add_to(y, old=1):
        arguments = (y, parts, step, old, P, C)
        launch("sums.cu", "sum_parts", y, (ceil(C, 32),), (32, min(P, 32)), arguments)
        return y

    return add_to if to_leaf else add_to(empty(like, (C,)), old=0)


def column_sums(x, like, to_leaf=False):
    """The sums of the columns of x (N, C), as sum_parts gives them."""
    N, C = x.shape
    parts = empty(x, (ceil(N, ROWS), C), "float32")
    grid = (ceil(C, 32), len(parts)), (32, 8)
    launch("sums.cu", "column_sums", x, *grid, (parts, contiguous(x), N, C))
    return sum_parts(parts, like, to_leaf)


def square_sum(x):
    """The sum of x_i^2, a 0-d array."""
    blocks = min(ceil(x.size, 256), 512)
    sums = empty(x, (blocks, 1), "float32")
    launch("sums.cu", "square_sums", x, (blocks,), (256,), (sums, x, np.int64(x.size)))
    return sum_parts(sums, sums).reshape(())
