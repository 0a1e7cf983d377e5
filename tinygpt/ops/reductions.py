"""Many numbers into one: sum, mean and max over some axes, or all of them.

Each takes `axis` (None for all, an int or a tuple) and `keepdims`, as NumPy does.
"""

import numpy as np


def sum(x, axis=None, keepdims=False):
    """y = sum of x over `axis`.      dx = dy, for every element summed.   Saves only the shape."""
    shape = x.shape

    def backward(dy):
        return (np.broadcast_to(_with_axes(dy, shape, axis, keepdims), shape),)

    return x.sum(axis=axis, keepdims=keepdims), backward


def mean(x, axis=None, keepdims=False):
    """y = mean of x over `axis`.     dx = dy / n for n elements a mean.   Saves only the shape."""
    shape = x.shape
    y = x.mean(axis=axis, keepdims=keepdims)
    n = x.size / y.size

    def backward(dy):
        return (np.broadcast_to(_with_axes(dy / n, shape, axis, keepdims), shape),)

    return y, backward


def max(x, axis=None, keepdims=False):
    """y = largest of x over `axis`.  dx = dy where x = y, shared equally in a tie.   Saves x and y.

    Equal shares are the limit of log(sum(exp(c x))) / c for large c; torch.amax does the same.
    """
    y = x.max(axis=axis, keepdims=True)

    def backward(dy):
        won = (x == y).astype(x.dtype)
        won /= won.sum(axis=axis, keepdims=True)
        return (won * _with_axes(dy, x.shape, axis, keepdims),)

    return y if keepdims else y.squeeze(axis), backward


def _with_axes(dy, shape, axis, keepdims):
    """`dy` with the summed axes back as axes of size 1, so that it broadcasts against `shape`."""
    if keepdims:
        return dy
    if axis is None:
        axis = tuple(range(len(shape)))
    axes = {a % len(shape) for a in (axis if isinstance(axis, tuple) else (axis,))}
    return dy.reshape([1 if i in axes else n for i, n in enumerate(shape)])
