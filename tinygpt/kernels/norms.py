"""Layer and root-mean-square normalisation, of x or of a residual sum x + h: kernels in
cuda/layer_norm.cu and cuda/rms_norm.cu.

A norm is followed by a product, so y is rounded as products want it, and dy comes in that dtype.
h is the result of a product, and its gradient comes in its own dtype. The residual stream, x and
its gradient, keeps all its bits.
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
    return _norm_alone(ops.layer_norm, layer_norm, x, (w, b), eps)


def rms_norm(x, w=None, eps=1e-5):
    """The twin of ops.rms_norm. Saves x, w and one number per row.

    Rows of more than 12288 numbers are left to the op.
    """
    return _norm_alone(ops.rms_norm, rms_norm, x, (w,), eps)


def add_layer_norm(x, h, w, b=None, eps=1e-5):
    """The twin of ops.add_layer_norm. Saves x + h, w and two numbers per row.

    Rows of more than 6144 numbers are left to the op, and an h that is not as a product leaves it.
    """
    if _fits_sum(x, h, (w, b)):
        return _sum_and_norm("layer_norm", x, h, (w, b), eps)
    return by_the_op(ops.add_layer_norm, (x, h, w, b), {"eps": eps})


def add_rms_norm(x, h, w=None, eps=1e-5):
    """The twin of ops.add_rms_norm. Saves x + h, w and one number per row.

    Rows of more than 12288 numbers are left to the op, and an h that is not as a product leaves it.
    """
    if _fits_sum(x, h, (w,)):
        return _sum_and_norm("rms_norm", x, h, (w,), eps)
    return by_the_op(ops.add_rms_norm, (x, h, w), {"eps": eps})


def _norm_alone(op, twin, x, weights, eps):
    if not _fits(x, weights):  # 16 bits, perhaps with weights in float32, are widened first
        return by_the_op(twin if is_short(x) else op, (x, *weights), {"eps": eps})
    (_, y), backward_of_both = _sum_and_norm(op.__name__, x, None, weights, eps)

    def backward(dy, to_leaf=(False, False, False)):
        dx, _, *dweights = backward_of_both(None, dy, (to_leaf[0], False, *to_leaf[1:]))
        return dx, *dweights

    return y, backward


def _fits_sum(x, h, weights):
    """Whether the kernels take these arrays; h has to be as a product leaves it."""
    alike = h is None or (h.shape == x.shape and h.dtype == dtype_for_products(x))
    return alike and _fits(x, weights)


def _fits(x, weights):
    """Whether the kernels take these arrays."""
    return stored(x, *weights) and x.shape[-1] % 4 == 0 and _warps(x, weights) > 0


def _warps(x, weights):
    """Warps of a block on the way back. Each adds up the gradients of all weights by itself."""
    return min(WARPS, MOST_SHARED // (4 * len(weights) * x.shape[-1]))


def _sum_and_norm(name, x, h, weights, eps):
    """(x + h, its norm) and their backward, by the kernels in the .cu file of that name."""
    x, h = contiguous(x), None if h is None else contiguous(h)
    C, rounded = x.shape[-1], dtype_for_products(x)
    N = x.size // C
    y, written = empty(x, dtype=rounded), None if h is None else empty(x)
    kept = [empty(x, (N,), "float32") for _ in weights]  # of rows: mean, 1 / std; or 1 / rms
    grid = (ceil(N, WARPS),), (32 * WARPS,)
    arguments = (y, written, *kept, x, h, *weights, float(eps), N, C)
    launch(f"{name}.cu", f"{name}_forward", x, *grid, arguments, result=rounded)
    s = x if h is None else written
    rounds_dh = h is not None and h.dtype != x.dtype
    dh_is_dx = h is not None and not rounds_dh

    def backward(ds, dy, to_leaf=(False, False, False, False)):
        ds = None if ds is None else contiguous(ds.astype(s.dtype, copy=False))
        dy, dx = contiguous(dy.astype(rounded, copy=False)), empty(s)
        dh = empty(s, dtype=rounded) if rounds_dh else None
        parts = None
        if weights[0] is not None:
            parts = empty(s, (ceil(N, ROWS), len(weights), C), "float32")
        warps = _warps(s, weights)
        launch(
            f"{name}.cu", f"{name}_backward", s, (ceil(N, ROWS),), (32 * warps,),
            (dx, dh, parts, ds, dy, s, weights[0], *kept, N, C),
            shared=4 * len(weights) * C * warps, result=rounded,
        )  # fmt: skip
        dweights = [
            None if w is None else sum_parts(parts[:, i], w, leaf)
            for i, (w, leaf) in enumerate(zip(weights, to_leaf[2:], strict=False))
        ]
        return dx, dx if dh_is_dx else dh, *dweights

    return (s, y), backward
