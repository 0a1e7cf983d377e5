"""Linear layers: products by cuBLAS, in the precision that is set."""

from __future__ import annotations

from .. import ops
from .gemm import gradient, product
from .launch import stored
from .precision import for_products
from .sums import column_sums


def linear(x, w, b=None):
    """The twin of ops.linear. Saves x and w, as products take them; y is of that dtype."""
    if not stored(x) or not stored(w):
        return ops.linear(x, w, b)
    shape, dtypes = x.shape, (x.dtype, w.dtype)
    rows, w = for_products(x.reshape(-1, shape[-1])), for_products(w)
    y = product(rows, w, rows.dtype)  # (R, N)
    if b is not None:
        y += for_products(b).astype(y.dtype, copy=False)

    def backward(dy, needs=(True, True, True), to_leaf=(False, False, False)):
        dy = dy.reshape(-1, dy.shape[-1]).astype(rows.dtype, copy=False)
        dx = product(dy, w.T, dtypes[0]).reshape(shape) if needs[0] else None
        dw = gradient(rows.T, dy, dtypes[1], to_leaf[1]) if needs[1] else None
        return dx, dw, None if b is None else column_sums(dy, b, to_leaf[2])

    return y.reshape(*shape[:-1], w.shape[1]), backward
