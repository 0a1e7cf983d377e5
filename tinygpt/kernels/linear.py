"""Products with one matrix, by cuBLAS, in the precision that is set."""

from __future__ import annotations

import numpy as np

from .. import ops
from .gemm import gradient, product
from .launch import stored
from .precision import dtype_for_products, for_products
from .sums import column_sums


def linear(x, w, b=None):
    """The twin of ops.linear. Saves x and w, as products take them; y is of that dtype."""
    if not _multiplied(x, w):
        return ops.linear(x, w, b)
    dtype = dtype_for_products(x)
    y, backward_of_product = _rows_by_matrix(x, w, dtype, None if b is None else for_products(b))

    def backward(dy, needs=(True, True, True), to_leaf=(False, False, False)):
        dy = dy.astype(dtype, copy=False)
        dx, dw = backward_of_product(dy, needs[:2], to_leaf[:2])
        if b is None:
            return dx, dw, None
        return dx, dw, column_sums(dy.reshape(-1, len(b)), b, to_leaf[2])

    return y, backward


def matmul(a, b):
    """The twin of ops.matmul, where all of `a` shares one matrix b. y is of the wider dtype."""
    if a.ndim < 2 or b.ndim != 2 or a.shape[-1] != len(b) or not _multiplied(a, b):
        return ops.matmul(a, b)
    return _rows_by_matrix(a, b, np.result_type(a.dtype, b.dtype))


def _multiplied(x, w):
    """Whether cuBLAS takes x and w as products take them."""
    return stored(x) and stored(w) and dtype_for_products(x) == dtype_for_products(w)


def _rows_by_matrix(x, w, dtype, b=None):
    """x (..., K) @ w (K, N) + b (N,) in `dtype`, and the backward of the product."""
    shape, dtypes = x.shape, (x.dtype, w.dtype)
    rows, w = for_products(x.reshape(-1, shape[-1])), for_products(w)
    y = product(rows, w, dtype, b)  # (R, N)

    def backward(dy, needs=(True, True), to_leaf=(False, False)):
        dy = dy.reshape(-1, dy.shape[-1]).astype(rows.dtype, copy=False)
        dx = product(dy, w.T, dtypes[0]).reshape(shape) if needs[0] else None
        dw = gradient(rows.T, dy, dtypes[1], to_leaf[1]) if needs[1] else None
        return dx, dw

    return y.reshape(*shape[:-1], w.shape[1]), backward
