"""Log-softmax: scores into log-probabilities."""

import numpy as np


def log_softmax(x, axis=-1):
    """y_i = x_i - log sum_j e^(x_j) along `axis`.

    x any shape -> y the same.   Saves y.

    dy_i / dx_j = delta_ij - e^(y_j), so       dx_j = dy_j - e^(y_j) sum_i dy_i

    The largest score is subtracted first: the logarithm never sees 0 or infinity.
    """
    y = x - x.max(axis=axis, keepdims=True)
    y -= np.log(np.exp(y).sum(axis=axis, keepdims=True))

    def backward(dy):
        dx = np.exp(y)
        dx *= -dy.sum(axis=axis, keepdims=True)
        dx += dy
        return (dx,)

    return y, backward
