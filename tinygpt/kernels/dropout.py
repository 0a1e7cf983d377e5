"""Dropout: the kernel in cuda/dropout.cu draws the bits of ops/dropout.py."""

from __future__ import annotations

import functools

import numpy as np

from .. import ops
from .launch import ceil, contiguous, launch, stored


def dropout(x, p, rng, first=0):
    """The twin of ops.dropout. Saves nothing: the way back draws the same bits again."""
    if not stored(x):
        return ops.dropout(x, p, rng, first)

    dtype = x.dtype

    def drop(x):
        y, x = np.empty_like(x, dtype, order="C"), contiguous(x)
        warps = ceil(first % 16 + x.size, 512)
        arguments = (y, x, np.uint64(first), *random_arguments(p, rng), x.size)
        launch("dropout.cu", "dropout", x, (ceil(warps, 8),), (256,), arguments, result=dtype)
        return y

    def backward(dy):
        return (drop(dy),)  # as x, also where dy is of the residual stream, in float32

    return drop(x), backward


def random_arguments(p, rng):
    """What kernels draw with: the two keys of Philox, the threshold below which bits drop an
    element, and the scale of those that stay."""
    key = rng if isinstance(rng, tuple) else (rng,)
    return (*_philox_key(key), np.uint32(round(p * 65536)), 1 / (1 - p))


@functools.lru_cache(4096)
def _philox_key(key):
    return tuple(np.random.SeedSequence((len(key), *key)).generate_state(2, np.uint64))
