"""Ops that move numbers and compute none: their gradients move them back."""

import numpy as np

from .broadcast import unbroadcast


def reshape(x, shape):
    """y = x in another shape (one size may be -1).      dx = dy in the old shape."""
    old = x.shape

    def backward(dy):
        return (dy.reshape(old),)

    return x.reshape(shape), backward


def transpose(x, axes=None):
    """y = x with its axes in the order `axes` (None: reversed).   dx = dy in the inverse order."""
    axes = tuple(range(x.ndim))[::-1] if axes is None else tuple(a % x.ndim for a in axes)
    inverse = sorted(range(len(axes)), key=axes.__getitem__)

    def backward(dy):
        return (dy.transpose(inverse),)

    return x.transpose(axes), backward


def index(x, key):
    """y = x[key], with any key that NumPy takes: numbers, slices, integer or boolean arrays.

    dx is 0 but for dx[key], to which dy is added: an element taken twice gets both gradients.
    (`dx[key] += dy` would keep only one of them.)   Saves only the key and the shape.
    """
    shape, dtype = x.shape, x.dtype

    def backward(dy):
        if _takes_each_once(key):
            dx = np.zeros(shape, dtype, like=dy)
            dx[key] = dy
            return (dx,)
        size = int(np.prod(shape))
        place = np.arange(size, like=dy).reshape(shape)[key]  # where in x each element came from
        dx = np.bincount(place.reshape(-1), dy.reshape(-1), minlength=size)
        return (dx.astype(dtype).reshape(shape),)

    return x[key], backward


def _takes_each_once(key):
    """Numbers, slices, None and ... cannot name an element twice; arrays and lists can."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or isinstance(part, int | slice | type(...)) for part in parts)


def concatenate(*arrays, axis=0):
    """y = the arrays one after the other along `axis`.   Each gets its own stretch of dy back."""
    sizes = [a.shape[axis] for a in arrays]

    def backward(dy):
        parts, _ = split(dy, sizes, axis)
        return parts

    return np.concatenate(arrays, axis=axis), backward


def split(x, sizes, axis=-1):
    """ys = x cut along `axis` into parts of the given sizes (views).   dx = the dys, concatenated.

    The one op here with several results: `backward` takes as many gradients.
    """
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    if ends[-1] != x.shape[axis]:
        raise ValueError(f"sizes {list(sizes)} add up to {ends[-1]}, not to {x.shape[axis]}")
    lead = (slice(None),) * (axis % x.ndim)
    parts = tuple(x[(*lead, slice(end - n, end))] for n, end in zip(sizes, ends, strict=True))

    def backward(*dys):
        return (np.concatenate(dys, axis=axis),)

    return parts, backward


def where(condition, a, b):
    """y = a where condition, else b.       da = dy where condition, db = dy elsewhere.

    Saves the condition and two shapes.
    """
    a_shape, b_shape = np.shape(a), np.shape(b)

    def backward(dy):
        da = unbroadcast(np.where(condition, dy, 0.0), a_shape)
        db = unbroadcast(np.where(condition, 0.0, dy), b_shape)
        return None, da, db

    return np.where(condition, a, b), backward
