"""Linear layers: products by cuBLAS, in the precision that is set."""

from __future__ import annotations

import numpy as np

from .. import ops
from .gemm import product
from .launch import stored
from .precision import for_products


def linear(x, w, b=None):
    """The twin of ops.linear. Saves x and w, as products take them; y is of that dtype."""
    if not stored(x) or not stored(w):
        return ops.linear(x, w, b)
    shape, dtypes = x.shape, (x.dtype, w.dtype)
    rows, w = for_products(x.reshape(-1, shape[-1])), for_products(w)
    y = product(rows, w, rows.dtype)  # (R, N)
    if b is not None:
        y += b.astype(y.dtype, copy=False)

    def backward(dy, needs=(True, True, True)):
        dy = dy.reshape(-1, dy.shape[-1]).astype(rows.dtype, copy=False)
        dx = product(dy, w.T, dtypes[0]).reshape(shape) if needs[0] else None
        dw = product(rows.T, dy, dtypes[1]) if needs[1] else None
        if b is None:
            return dx, dw, None
        ones = np.ones((1, len(dy)), dy.dtype, like=dy)
        return dx, dw, product(ones, dy, b.dtype)[0]

    return y.reshape(*shape[:-1], w.shape[1]), backward
