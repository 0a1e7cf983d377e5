"""What an optimizer does to its flat buffers: kernels in cuda/adamw.cu and cuda/clip.cu."""

from __future__ import annotations

from .launch import ceil, empty, launch
from .sums import square_sum


def adamw(w, m, v, g, numbers, b1, b2, eps, norm=None, copy=None):
    """One step of AdamW on flat float32 arrays, in place; cuda/adamw.cu says which.

    numbers (3,): root, step and shrink. norm: a 0-d array; where it is not finite, nothing changes.
    copy: an array that gets w as the products want it.
    """
    n = w.size
    arguments = (w, m, v, copy, g, norm, numbers, float(b1), float(b2), float(eps), n)
    launch("adamw.cu", "adamw", w if copy is None else copy, (ceil(n, 256),), (256,), arguments)


def clip(g, max_norm, scale=None):
    """Scale g (n,) in place to a norm of at most max_norm, or to 0 where its norm is not finite.

    scale: a 0-d array, by which g is divided first.

    Returns the norm before, a 0-d array on the GPU, for which nothing has waited.
    """
    norm = empty(g, (), "float32")
    arguments = (g, norm, square_sum(g), scale, float(max_norm), g.size)
    launch("clip.cu", "clip", g, (ceil(g.size, 256),), (256,), arguments)
    return norm
