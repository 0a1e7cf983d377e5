"""Sums, products and powers of two arrays, which broadcast as NumPy's do."""

import math

import numpy as np

from .broadcast import unbroadcast


def add(a, b):
    """y = a + b.        da = dy, db = dy.   Saves nothing but the two shapes."""
    a_shape, b_shape = getattr(a, "shape", ()), getattr(b, "shape", ())

    def backward(dy):
        return unbroadcast(dy, a_shape), unbroadcast(dy, b_shape)

    return a + b, backward


def subtract(a, b):
    """y = a - b.        da = dy, db = -dy.   Saves nothing but the two shapes."""
    a_shape, b_shape = getattr(a, "shape", ()), getattr(b, "shape", ())

    def backward(dy):
        return unbroadcast(dy, a_shape), unbroadcast(-dy, b_shape)

    return a - b, backward


def multiply(a, b):
    """y = a * b.        da = dy b, db = dy a.   Saves a and b."""
    a_shape, b_shape = getattr(a, "shape", ()), getattr(b, "shape", ())

    def backward(dy):
        return unbroadcast(dy * b, a_shape), unbroadcast(dy * a, b_shape)

    return a * b, backward


def divide(a, b):
    """y = a / b.        da = dy / b, db = -dy a / b^2 = -da y.   Saves y and b."""
    y = a / b
    a_shape, b_shape = getattr(a, "shape", ()), getattr(b, "shape", ())

    def backward(dy):
        da = dy / b
        return unbroadcast(da, a_shape), unbroadcast(-da * y, b_shape)

    return y, backward


def negative(x):
    """y = -x.           dx = -dy.   Saves nothing."""

    def backward(dy):
        return (-dy,)

    return -x, backward


def power(a, b):
    """y = a ** b.       da = dy b a^(b-1), db = dy y log(a).   Saves a, b and y.

    Of the two, one may be a plain number: a constant, which gets no gradient. Where a <= 0, an
    array of exponents gets 0.
    """
    y = a**b

    def backward(dy):
        if isinstance(b, int | float):
            return unbroadcast(dy * b * a ** (b - 1), np.shape(a)), None
        if isinstance(a, int | float):
            log_a = math.log(a) if a > 0 else 0.0
            return None, unbroadcast(dy * y * log_a, b.shape)
        log_a = np.log(np.where(a > 0, a, 1.0))
        da, db = dy * b * a ** (b - 1), dy * y * log_a
        return unbroadcast(da, a.shape), unbroadcast(db, b.shape)

    return y, backward
