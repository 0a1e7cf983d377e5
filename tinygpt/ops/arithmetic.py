"""Sums, products and powers of two arrays, which broadcast as NumPy's do."""

import numpy as np

from .broadcast import unbroadcast


def add(a, b):
    """y = a + b.        da = dy, db = dy.   Saves nothing but the two shapes."""
    a_shape, b_shape = np.shape(a), np.shape(b)

    def backward(dy):
        return unbroadcast(dy, a_shape), unbroadcast(dy, b_shape)

    return a + b, backward


def subtract(a, b):
    """y = a - b.        da = dy, db = -dy.   Saves nothing but the two shapes."""
    a_shape, b_shape = np.shape(a), np.shape(b)

    def backward(dy):
        return unbroadcast(dy, a_shape), unbroadcast(-dy, b_shape)

    return a - b, backward


def multiply(a, b):
    """y = a * b.        da = dy b, db = dy a.   Saves a and b."""

    def backward(dy):
        return unbroadcast(dy * b, np.shape(a)), unbroadcast(dy * a, np.shape(b))

    return a * b, backward


def divide(a, b):
    """y = a / b.        da = dy / b, db = -dy a / b^2 = -da y.   Saves y and b."""
    y = a / b
    a_shape = np.shape(a)

    def backward(dy):
        da = dy / b
        return unbroadcast(da, a_shape), unbroadcast(-da * y, np.shape(b))

    return y, backward


def negative(x):
    """y = -x.           dx = -dy.   Saves nothing."""

    def backward(dy):
        return (-dy,)

    return -x, backward


def power(a, b):
    """y = a ** b.       da = dy b a^(b-1), db = dy y log(a).   Saves a, b and y.

    An exponent that is a plain number is a constant and gets no gradient. An array of exponents
    does; where a <= 0 its gradient is given as 0.
    """
    y = a**b

    def backward(dy):
        da = unbroadcast(dy * b * a ** (b - 1), np.shape(a))
        if isinstance(b, int | float):
            return da, None
        log_a = np.log(np.where(a > 0, a, 1.0))
        return da, unbroadcast(dy * y * log_a, b.shape)

    return y, backward
