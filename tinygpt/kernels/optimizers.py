"""What an optimizer does to its flat buffers: kernels in cuda/adamw.cu, cuda/clip.cu and
cuda/sums.cu."""

from __future__ import annotations

import numpy as np

from .launch import ceil, launch
from .norms import sum_parts


def adamw(w, m, v, g, b1, b2, root, eps, step, shrink, norm=None, copy=None):
    """One step of AdamW on flat float32 arrays, in place; cuda/adamw.cu says which.

    norm: a 0-d array; where it is not finite, nothing changes. copy: an array that gets w as the
    products want it.
    """
    n = w.size
    arguments = (w, m, v, copy, g, norm, b1, b2, root, eps, step, shrink, n)
    launch("adamw.cu", "adamw", w if copy is None else copy, (ceil(n, 256),), (256,), arguments)


def clip(g, max_norm):
    """Scale g (n,) in place to a norm of at most max_norm, or to 0 where its norm is not finite.

    Returns the norm before, a 0-d array on the GPU, for which nothing has waited.
    """
    norm = np.empty((), "float32", like=g)
    arguments = (g, norm, square_sum(g), float(max_norm), g.size)
    launch("clip.cu", "clip", g, (ceil(g.size, 256),), (256,), arguments)
    return norm


def square_sum(x):
    """The sum of x_i^2, a 0-d array, always added up in the same order."""
    blocks = min(ceil(x.size, 256), 512)
    sums = np.empty((blocks, 1), "float32", like=x)
    launch("sums.cu", "square_sums", x, (blocks,), (256,), (sums, x, np.int64(x.size)))
    return sum_parts(sums, sums).reshape(())
