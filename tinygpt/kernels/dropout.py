"""Dropout: the kernel in cuda/dropout.cu draws the bits of ops/dropout.py."""

from __future__ import annotations

import numpy as np

from .. import ops
from .graph import sent_key
from .launch import ceil, contiguous, empty, launch, stored


def dropout(x, p, rng, first=0):
    """The twin of ops.dropout. Saves nothing: the way back draws the same bits again."""
    if not stored(x):
        return ops.dropout(x, p, rng, first)

    dtype, random = x.dtype, random_arguments(p, rng, x)

    def drop(x):
        y, x = empty(x, dtype=dtype), contiguous(x)
        warps = ceil(first % 16 + x.size, 512)
        arguments = (y, x, np.uint64(first), *random, x.size)
        launch("dropout.cu", "dropout", x, (ceil(warps, 8),), (256,), arguments, result=dtype)
        return y

    def backward(dy):
        return (drop(dy),)  # as x, also where a plain sum hands on its gradient in float32

    return drop(x), backward


def random_arguments(p, rng, like):
    """What kernels draw with: the key of Philox, two numbers where `like` is, the threshold below
    which bits drop an element, and the scale of those that stay."""
    words = rng if isinstance(rng, tuple) else (rng,)
    return sent_key(words, like), np.uint32(round(p * 65536)), 1 / (1 - float(p))
