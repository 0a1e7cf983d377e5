"""Muon's step on a matrix: products by cuBLAS, and kernels in cuda/muon.cu for the rest."""

from __future__ import annotations

from .gemm import gemm, product
from .launch import ceil, empty, launch
from .sums import square_sum


def muon(w, m, g, numbers, scale, momentum, coefficients, norm=None, copy=None):
    """One step of Muon on a float32 matrix w (n_in, n_out), in place; cuda/muon.cu says which.

    m, g: arrays like w. numbers (3,): the last two are lr and shrink. scale: of lr, for a matrix of
    this shape. coefficients: a, b and c. norm and copy are those of adamw().
    """
    u = empty(w)
    _each("running_gradient", w, (u, m, g, norm, float(momentum)))
    _each("unit", u, (u, square_sum(u)))
    arguments = (w, copy, orthogonal(u, coefficients), norm, numbers, scale)
    _each("muon", w if copy is None else copy, arguments)


def orthogonal(x, coefficients):
    """What optim.orthogonal makes of x, (n, m), a matrix whose norm is 1: by the same products."""
    tall = x.shape[0] > x.shape[1]
    g = product(x.T, x, x.dtype) if tall else product(x, x.T, x.dtype)
    rounds = q = _round(g, coefficients)
    for _ in range(4):
        g = product(product(q, g, g.dtype), q, g.dtype)
        q = _round(g, coefficients)
        rounds = product(q, rounds, g.dtype)
    return product(x, rounds, x.dtype) if tall else product(rounds, x, x.dtype)


def _round(g, coefficients):
    """a + b g + c g^2."""
    factor, q = empty(g), empty(g)
    launch("muon.cu", "start_round", g, *_grid(g), (factor, q, g, *coefficients, len(g)))
    return gemm(factor, g, q, beta=1.0)


def _each(kernel, x, arguments):
    """Run a kernel that has a thread for each number of x."""
    launch("muon.cu", kernel, x, *_grid(x), (*arguments, x.size))


def _grid(x):
    return (ceil(x.size, 256),), (256,)
