"""Embedding: kernels in cuda/embedding.cu."""

from __future__ import annotations

import numpy as np

from .. import ops
from .launch import ceil, contiguous, empty, launch, stored

CHUNK = 128  # sorted ids to a block, as in the kernel


def embedding(ids, w):
    """The twin of ops.embedding. Saves ids and the shape of w."""
    if not stored(w) or ids.dtype != "int64":
        return ops.embedding(ids, w)
    C, N = w.shape[1], ids.size
    ids, w = contiguous(ids), contiguous(w)
    y = empty(w, (*ids.shape, C))
    launch(
        "embedding.cu", "embedding_forward", w, (N,), (min(ceil(C, 32) * 32, 256),), (y, w, ids, C)
    )
    shape, dtype = w.shape, w.dtype

    def backward(dy, to_leaf=(False, False)):
        order = np.argsort(ids.reshape(-1), kind="stable")
        ordered = ids.reshape(-1)[order]
        dy = contiguous(dy.astype(dtype, copy=False))
        parts = empty(dy, (ceil(N, CHUNK), 2, C), "float32")

        def add_to(dw):
            grid = (len(parts), ceil(C, 128)), (128,)
            arguments = (dw, parts, dy, ordered, order, N, C)
            launch("embedding.cu", "embedding_backward", dy, *grid, arguments)
            arguments = (dw, parts, ordered, N, C)
            launch("embedding.cu", "embedding_backward_join", dy, *grid, arguments)
            return dw

        return None, add_to if to_leaf[1] else add_to(np.zeros(shape, dtype, like=dy))

    return y, backward
