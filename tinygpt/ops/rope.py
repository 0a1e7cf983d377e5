"""Rotary position embedding."""

import numpy as np


def rope(x, cos, sin):
    """Turn each pair (x_i, x_{i + D/2}) by its angle: position times a frequency of its own.

    x (..., T, D), cos and sin (T, D/2) from `rope_tables` -> y (..., T, D).   Saves cos and sin.

        y_i         = x_i cos_i - x_{i+D/2} sin_i
        y_{i + D/2} = x_i sin_i + x_{i+D/2} cos_i

    The gradient of a rotation is the rotation back: dx is dy turned by minus the angle.
    The product of a turned query and a turned key depends only on how far apart they stand.
    Su et al. 2021, arXiv:2104.09864, eq. 34 (there neighbours are paired; pairing the two halves,
    as here and in the Llama checkpoints of Hugging Face, is the same up to the order of the
    features).
    """

    def backward(dy):
        return _rotate(dy, cos, -sin), None, None

    return _rotate(x, cos, sin), backward


def _rotate(x, cos, sin):
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    y = np.empty_like(x)
    y1, y2 = y[..., :half], y[..., half:]
    np.multiply(x1, cos, out=y1)
    y1 -= x2 * sin
    np.multiply(x2, cos, out=y2)
    y2 += x1 * sin
    return y


def rope_tables(positions, D, base=10000.0, dtype="float32", scaling=None):
    """cos and sin of position * base^(-2i/D), i = 0 .. D/2 - 1: two arrays (T, D/2) of `dtype`.

    positions (T,) ints. scaling: a function from these frequencies (D/2,) to others. Computed in
    float64, so that far positions keep their angle.
    """
    frequencies = base ** (-np.arange(0, D, 2) / D)  # (D/2,)
    if scaling is not None:
        frequencies = scaling(frequencies)
    angles = np.asarray(positions, "float64")[:, None] * frequencies  # (T, D/2)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
