"""A residual sum and the norm behind it: in a pre-norm transformer one follows every sum."""

from .arithmetic import add
from .layer_norm import layer_norm
from .rms_norm import rms_norm


def add_layer_norm(x, h, w, b=None, eps=1e-5):
    """s = x + h, and y = layer_norm(s, w, b).

    x (..., C), h like x or None for 0, w (C,), b (C,) or None -> s, y like x.   Saves what
    layer_norm does.

    s goes two ways, on to the next sum and into the norm, and what comes back on both adds up:
        dx = dh = ds + (what layer_norm makes of dy)
    """
    s, backward_of_sum = _sum(x, h)
    y, backward_of_norm = layer_norm(s, w, b, eps)

    def backward(ds, dy):
        dx, dw, db = backward_of_norm(dy)
        dx += ds  # nobody else has this array
        return *backward_of_sum(dx), dw, db

    return (s, y), backward


def add_rms_norm(x, h, w=None, eps=1e-5):
    """s = x + h, and y = rms_norm(s, w).

    x (..., C), h like x or None for 0, w (C,) or None for 1 -> s, y like x.   Saves what rms_norm
    does.

    s goes two ways, on to the next sum and into the norm, and what comes back on both adds up:
        dx = dh = ds + (what rms_norm makes of dy)
    """
    s, backward_of_sum = _sum(x, h)
    y, backward_of_norm = rms_norm(s, w, eps)

    def backward(ds, dy):
        dx, dw = backward_of_norm(dy)
        dx += ds  # nobody else has this array
        return *backward_of_sum(dx), dw

    return (s, y), backward


def _sum(x, h):
    """x + h and its backward, where h may be None."""
    return (x, lambda ds: (ds, None)) if h is None else add(x, h)
