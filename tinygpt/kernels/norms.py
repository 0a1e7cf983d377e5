"""Layer and root-mean-square normalisation: kernels in cuda/layer_norm.cu and cuda/rms_norm.cu.

A norm is followed by a product, so y is rounded as products want it, and dy comes in that dtype.
In x + f(norm(x)), the gradient that x has from the sum is there before that of the norm: `carried`,
to which the kernel adds.
"""

from __future__ import annotations

from .. import ops
from .fallback import by_the_op, is_short
from .launch import ceil, contiguous, empty, launch, stored
from .precision import dtype_for_products
from .sums import sum_parts

WARPS = 4  # of a block, a row each at a time
ROWS = 32  # of a block, on the way back, as in the kernels
MOST_SHARED = 48 << 10  # bytes that a block of any GPU can have


def layer_norm(x, w, b=None, eps=1e-5):
    """The twin of ops.layer_norm. Saves x, w and two numbers per row.

    Rows of more than 6144 numbers are left to the op.
    """
    C = x.shape[-1]
    warps = min(WARPS, MOST_SHARED // (8 * C))  # each adds up two gradients of C numbers
    if not stored(x, w, b) or C % 4 or not warps:
        return by_the_op(ops.layer_norm, (x, w, b), {"eps": eps})
    x, N = contiguous(x), x.size // C
    y = empty(x, dtype=dtype_for_products(x))
    mean, r_std = empty(x, (N,), "float32"), empty(x, (N,), "float32")
    grid = (ceil(N, WARPS),), (32 * WARPS,)
    arguments = (y, mean, r_std, x, w, b, float(eps), N, C)
    launch("layer_norm.cu", "layer_norm_forward", x, *grid, arguments, result=y.dtype)

    def backward(dy, to_leaf=(False, False, False), carried=None):
        dy, dx = contiguous(dy.astype(y.dtype, copy=False)), empty(x)
        parts = empty(x, (ceil(N, ROWS), 2, C), "float32")
        launch(
            "layer_norm.cu", "layer_norm_backward", x, (len(parts),), (32 * warps,),
            (dx, parts, dy, _as(carried, x), x, w, mean, r_std, N, C),
            shared=warps * 8 * C, result=y.dtype,
        )  # fmt: skip
        dw = sum_parts(parts[:, 0], w, to_leaf[1])
        return dx, dw, None if b is None else sum_parts(parts[:, 1], w, to_leaf[2])

    return y, backward


def rms_norm(x, w=None, eps=1e-5):
    """The twin of ops.rms_norm. Saves x, w and one number per row.

    Rows of more than 12288 numbers are left to the op.
    """
    C = x.shape[-1]
    warps = min(WARPS, MOST_SHARED // (4 * C))
    if C % 4 or not warps:
        return by_the_op(ops.rms_norm, (x, w), {"eps": eps})
    if not stored(x, w):  # queries in 16 bits, with weights in float32, are widened first
        return by_the_op(rms_norm if is_short(x) else ops.rms_norm, (x, w), {"eps": eps})
    x, N = contiguous(x), x.size // C
    y, r_rms = empty(x, dtype=dtype_for_products(x)), empty(x, (N,), "float32")
    grid = (ceil(N, WARPS),), (32 * WARPS,)
    arguments = (y, r_rms, x, w, float(eps), N, C)
    launch("rms_norm.cu", "rms_norm_forward", x, *grid, arguments, result=y.dtype)

    def backward(dy, to_leaf=(False, False), carried=None):
        dy, dx = contiguous(dy.astype(y.dtype, copy=False)), empty(x)
        blocks = ceil(N, ROWS)
        parts = None if w is None else empty(x, (blocks, C), "float32")
        launch(
            "rms_norm.cu", "rms_norm_backward", x, (blocks,), (32 * warps,),
            (dx, parts, dy, _as(carried, x), x, w, r_rms, N, C),
            shared=warps * 4 * C, result=y.dtype,
        )  # fmt: skip
        return dx, None if parts is None else sum_parts(parts, w, to_leaf[1])

    return y, backward


def _as(carried, x):
    """A gradient of x as a kernel reads it: like x, its numbers side by side."""
    return None if carried is None else contiguous(carried.astype(x.dtype, copy=False))
