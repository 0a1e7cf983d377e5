"""Dropout: forget some numbers at random while training."""

import numpy as np


def dropout(x, p, rng, first=0):
    """y = x * keep / (1 - p), where keep is 0 with probability p and 1 otherwise.

    x any shape, 0 <= p < 1, rng an int or a tuple of ints -> y like x.   Saves keep, a byte each.

    y is linear in x, so        dx = dy * keep / (1 - p)
    Srivastava et al. 2014, JMLR 15, section 4 (scaled while training, so that nothing is left to do
    afterwards).
    """
    keep = keep_mask(x.shape, p, rng, first, like=x)

    def drop(x):
        y = keep.astype(x.dtype)  # floats times floats: twice as fast as floats times booleans
        y *= x
        y *= 1 / (1 - p)
        return y

    def backward(dy):
        return (drop(dy),)

    return drop(x), backward


def keep_mask(shape, p, rng, first=0, like=None):
    """True with probability 1 - p (p is rounded to 1/65536): a boolean array of `shape`.

    What an element gets depends only on `rng` and its own number, first + its index: a part of a
    batch, drawn anywhere and in any order, gets what it gets in the whole. The generator counts
    instead of remembering (Philox: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2,
    3"): block c of 16 elements is its output for counter c, 16 bits each.
    """
    n = int(np.prod(shape))
    skip = first % 16
    words = (skip + n + 3) // 4  # of 64 bits, each 4 elements
    key = philox_key(rng if isinstance(rng, tuple) else (rng,))
    philox = np.random.Philox(key=key, counter=first // 16)
    bits = np.random.Generator(philox).integers(0, 2**64, words, np.uint64).view(np.uint16)
    keep = bits[skip : skip + n].reshape(shape) >= round(p * 65536)
    return np.asarray(keep, like=like)


def philox_key(words):
    """The two numbers with which Philox draws for a tuple of ints."""
    return np.random.SeedSequence((len(words), *words)).generate_state(2, np.uint64)
