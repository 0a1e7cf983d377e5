"""Proof by finite differences: does a hand-written backward give the true gradient?"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from .rng import as_generator
from .vjp import is_float, vjp

EACH_ENTRY, DIRECTIONS = 64, 6  # larger arguments are checked along this many directions


class GradientError(AssertionError):
    """A backward pass disagrees with finite differences."""


def gradcheck(
    f: Callable,
    *arrays: Any,
    eps: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    rng: int | np.random.Generator = 0,
    allow_zero: Collection[str | int] = (),
) -> float:
    """Compare f's gradients with central differences, in float64; return the worst relative error.

    f: an op (arrays -> (y, backward)) or a function of Tensors that returns one Tensor; options go
    through functools.partial. arrays: its arguments, of which the floats are checked.

    The check: with a random dy, L = sum(dy * y) is a number, and backward(dy) claims its gradient
    g. Stepping x by eps along v changes L by eps (g . v) + O(eps^3), taking both sides of x. v is
    one entry at a time where x is small, and random signs where it is large, so that a single wrong
    entry shows in full. (A plain sum of y for L would let a softmax backward that returns 0 pass.)

    The error is the largest |g . v - numeric| over the largest |g_i| of the same argument. It
    passes up to rtol, or up to atol in absolute terms. An argument whose gradient is 0 throughout
    fails, because such a check checks nothing, unless allow_zero has its name or number. What fails
    is a GradientError, naming function, argument and both numbers.
    """
    rng = as_generator(rng)
    if not callable(f):
        raise TypeError(f"f must be an op or a function of Tensors, not {type(f).__name__}")
    if not any(map(is_float, arrays)):
        raise TypeError("there is nothing to check: none of the arguments is an array of floats")
    op = _as_op(f, arrays)
    name = getattr(getattr(f, "func", f), "__name__", type(f).__name__)
    labels = _argument_names(f, len(arrays))
    arrays = tuple(np.array(a, "float64") if is_float(a) else a for a in arrays)

    ys, backward = op(*arrays)
    several = isinstance(ys, tuple)
    dys = [rng.standard_normal(np.shape(y)) for y in (ys if several else (ys,))]
    gradients = backward(*dys)

    worst = 0.0
    for i, x in enumerate(arrays):
        if not is_float(x):
            continue
        what = f"{name}: gradient of {labels[i]}"
        g = gradients[i] if i < len(gradients) else None
        if g is None:
            raise GradientError(f"{what} is missing: backward returned {len(gradients)} values")
        if np.shape(g) != x.shape:
            raise GradientError(f"{what} has shape {np.shape(g)}, the argument has {x.shape}")
        largest = np.max(np.abs(g), initial=0.0)
        if not np.isfinite(largest):
            raise GradientError(f"{what} is not finite: {g}")
        for v in _directions(x, rng):
            around = [np.asarray(x + t * v) for t in (eps, -eps)]
            steps = [op(*arrays[:i], x_near, *arrays[i + 1 :])[0] for x_near in around]
            up, down = steps if several else ([step] for step in steps)
            change = sum(((a - b) * dy).sum() for a, b, dy in zip(up, down, dys, strict=True))
            numeric, analytic = change / (2 * eps), (g * v).sum()
            off = abs(analytic - numeric)
            if not off <= atol + rtol * largest:  # also when it is nan
                raise GradientError(
                    f"{what} is wrong: backward says {analytic:.10g}, finite differences say "
                    f"{numeric:.10g} (largest entry {largest:.3g})"
                )
            worst = max(worst, off / max(largest, atol) if largest > 0 else 0.0)
        if largest == 0 and x.size and not {i, labels[i]} & set(allow_zero):
            raise GradientError(
                f"{what} is 0 everywhere, so this checks nothing; "
                f"if that is right, pass allow_zero=({labels[i]!r},)"
            )
    return worst


def _as_op(f: Callable, arrays: tuple) -> Callable:
    """f itself if it is an op, else the op that f, a function of Tensors, amounts to."""
    try:
        result = f(*arrays)
    except Exception:  # a function of Tensors need not work on arrays; if it fails on Tensors too,
        return vjp(f)  # that error is shown together with this one
    is_op = isinstance(result, tuple) and len(result) == 2 and callable(result[1])
    return f if is_op else vjp(f)


def _directions(x: np.ndarray, rng: np.random.Generator):
    if x.size <= EACH_ENTRY:
        for i in range(x.size):
            yield (np.arange(x.size) == i).reshape(x.shape).astype(x.dtype)
    else:
        for _ in range(DIRECTIONS):
            yield rng.choice([-1.0, 1.0], x.shape)


def _argument_names(f: Callable, count: int) -> list[str]:
    """The names of f's first `count` arguments, or their numbers where they have none."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(f).parameters.values() if p.kind in kinds]
    return (names + [f"argument {i}" for i in range(len(names), count)])[:count]
