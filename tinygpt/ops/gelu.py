"""Gaussian error linear unit, in its exact form and in the tanh form that GPT-2 uses."""

import math

import numpy as np


def gelu(x):
    """y = x P(x), P(x) = (1 + erf(x / sqrt(2))) / 2: the chance that a standard normal is below x.

    x any shape, |x| below 1e19 in float32 -> y the same.   Saves x and P(x).

    P' is the normal density p(x) = e^(-x^2 / 2) / sqrt(2 pi), so
        dx = dy (P(x) + x p(x))
    Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2.
    """
    P = normal_cdf(x)

    def gradient(dx, x, P, dy):
        np.square(x, out=dx)
        dx *= -0.5
        np.exp(dx, out=dx)
        dx *= x
        dx *= 1 / math.sqrt(2 * math.pi)  # x p(x)
        dx += P
        dx *= dy

    def backward(dy):
        return (_in_blocks(gradient, x, P, dy),)

    return x * P, backward


def gelu_tanh(x):
    """y = x gate, gate = (1 + tanh u) / 2, u = K (x + A x^3).

    x any shape, |x| below 1e12 in float32 -> y the same.   Saves x and the gate.

    With t = tanh u = 2 gate - 1:   gate' = (1 - t^2) u' / 2 = 2 gate (1 - gate) u'
                                    x u' = K (x + 3 A x^3)
        dx = dy (gate + x gate') = dy gate (1 + (1 - gate) 2 K (x + 3 A x^3))
    Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2.
    """

    def open_gate(gate, x):
        np.square(x, out=gate)
        gate *= K * A
        gate += K
        gate *= x  # u
        np.tanh(gate, out=gate)
        gate += 1
        gate *= 0.5

    def gradient(dx, x, gate, dy):
        np.square(x, out=dx)
        dx *= 6 * K * A
        dx += 2 * K
        dx *= x  # 2 K (x + 3 A x^3)
        dx *= 1 - gate
        dx += 1
        dx *= gate
        dx *= dy

    def backward(dy):
        return (_in_blocks(gradient, x, gate, dy),)

    gate = _in_blocks(open_gate, x)
    return x * gate, backward


K, A = math.sqrt(2 / math.pi), 0.044715
BLOCK = 1 << 16  # numbers: what a pass over them writes, the next one finds in the core's cache


def _in_blocks(f, *arrays):
    """A new array y, after f(y, *arrays) filled it, given BLOCK numbers of each at a time.

    In place and in blocks, because on large arrays it is the memory that takes the time: in blocks,
    forward and backward of the exact form on 512 x 1536 numbers take a quarter less.
    """
    y = np.empty_like(arrays[0], order="C")
    flat = [a.reshape(-1) for a in (y, *arrays)]
    for start in range(0, y.size, BLOCK):
        f(*(a[start : start + BLOCK] for a in flat))
    return y


def normal_cdf(x):
    """P(X < x) for a standard normal X, within 1e-15 in float64, 2e-7 in float32.

    In float32, |x| has to be below 1e19.
    """
    return _in_blocks(_normal_cdf_single if x.dtype.itemsize <= 4 else _normal_cdf_double, x)


def _normal_cdf_single(P, x):
    """P = (1 + tanh u) / 2 with u = x q(x^2). The tanh form of GELU takes the first two terms of q,
    K + K A x^2; these seven were fitted to P on 0 .. 5.6 by reweighted least squares, within 3e-8,
    less than float32's own rounding adds. Beyond 5.6, P is 1 in float32.
    """
    x2 = np.square(x)
    np.minimum(x2, 5.6 * 5.6, out=x2)
    _polynomial(P, SINGLE, x2)
    P *= x
    np.tanh(P, out=P)
    P += 1
    P *= 0.5


def _normal_cdf_double(P, x):
    """The tail beyond z = |x| is e^(-z^2 / 2) N(z) / D(z), for two polynomials.

    Hart et al. 1968, "Computer Approximations", approximation 5666 for erfc, in the form of
    West 2005, "Better approximations to cumulative normal functions". It is used here for every z:
    past 7.07, where West changes formula, the tail is below 1e-12 and needs no more digits.
    """
    z = np.minimum(np.abs(x), 40.0)  # keeps the powers finite
    below = np.empty_like(z)
    _polynomial(P, NUMERATOR, z)
    _polynomial(below, DENOMINATOR, z)
    P /= below
    z *= z
    z *= -0.5
    P *= np.exp(z, out=z)  # the tail
    np.subtract(0.5, P, out=P)
    np.copysign(P, x, out=P)
    P += 0.5


def erf(x):
    """erf(x) = 2 P(X < sqrt(2) x) - 1, within 1e-15 in float64."""
    return 2 * normal_cdf(math.sqrt(2) * x) - 1


def _polynomial(y, coefficients, z):
    """y = c_0 z^n + c_1 z^(n-1) + ... + c_n, by Horner's rule."""
    np.multiply(z, coefficients[0], out=y)
    for c in coefficients[1:-1]:
        y += c
        y *= z
    y += coefficients[-1]


SINGLE = (
    1.75627762e-09,
    -1.32266285e-07,
    3.96477322e-06,
    -5.53063171e-05,
    -3.25947438e-05,
    0.0363330844,
    0.797884941,
)
NUMERATOR = (
    3.52624965998911e-2,
    0.700383064443688,
    6.37396220353165,
    33.912866078383,
    112.079291497871,
    221.213596169931,
    220.206867912376,
)
DENOMINATOR = (
    8.83883476483184e-2,
    1.75566716318264,
    16.064177579207,
    86.7807322029461,
    296.564248779674,
    637.333633378831,
    793.826512519948,
    440.413735824752,
)
