"""Softmax: scores into probabilities."""

import numpy as np


def softmax(x, axis=-1):
    """y_i = e^(x_i) / sum_j e^(x_j) along `axis`.

    x any shape -> y the same.   Saves y.

    dy_i / dx_j = y_i (delta_ij - y_j), so
        dx_j = sum_i dy_i y_i (delta_ij - y_j) = y_j (dy_j - sum_i dy_i y_i)

    The largest score is subtracted first, which changes nothing but keeps e^x finite.
    """
    y = x - x.max(axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=axis, keepdims=True)

    def backward(dy):
        dx = dy * y
        dx -= y * dx.sum(axis=axis, keepdims=True)
        return (dx,)

    return y, backward
