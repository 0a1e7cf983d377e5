"""Functions of one number, applied to every element. y = f(x), so dx = dy f'(x)."""

import numpy as np


def exp(x):
    """y = e^x.                 f' = y.   Saves y."""
    y = np.exp(x)

    def backward(dy):
        return (dy * y,)

    return y, backward


def log(x):
    """y = log x.               f' = 1 / x.   Saves x."""

    def backward(dy):
        return (dy / x,)

    return np.log(x), backward


def tanh(x):
    """y = tanh x.              f' = 1 - y^2.   Saves y."""
    y = np.tanh(x)

    def backward(dy):
        return (dy * (1 - y * y),)

    return y, backward


def sigmoid(x):
    """y = 1 / (1 + e^-x).      f' = y (1 - y).   Saves y.

    Computed as (1 + tanh(x / 2)) / 2, the same function, which cannot overflow.
    """
    y = np.tanh(0.5 * x)
    y += 1
    y *= 0.5

    def backward(dy):
        return (dy * y * (1 - y),)

    return y, backward


def relu(x):
    """y = max(x, 0).           f' = 1 where x > 0, else 0 (0 at the kink).   Saves y."""
    y = np.maximum(x, 0)

    def backward(dy):
        return (dy * (y > 0),)

    return y, backward


def relu2(x):
    """y = max(x, 0)^2.         f' = 2 max(x, 0).   Saves max(x, 0).

    Squared ReLU: So et al. 2021, "Primer", arXiv:2109.08668, section 3.
    """
    positive = np.maximum(x, 0)

    def backward(dy):
        dx = dy * positive
        dx *= 2
        return (dx,)

    return positive * positive, backward


def softcap(x, cap):
    """y = cap tanh(x / cap).   f' = 1 - (y / cap)^2.   Saves y.

    Near 0 it is x, and it stays within -cap .. cap. Gemma Team 2024, "Gemma 2", arXiv:2408.00118,
    section 2.
    """
    y = np.tanh(x / cap)
    y = y * cap

    def backward(dy):
        share = y / cap
        return (dy * (1 - share * share),)

    return y, backward


def silu(x):
    """y = x s, s = sigmoid(x).  f' = s + x s (1 - s) = s + y (1 - s).   Saves y and s.

    Also called swish: Hendrycks & Gimpel 2016, arXiv:1606.08415; Ramachandran et al. 2017,
    arXiv:1710.05941.
    """
    s, _ = sigmoid(x)
    y = x * s

    def backward(dy):
        dx = 1 - s
        dx *= y
        dx += s
        dx *= dy
        return (dx,)

    return y, backward
