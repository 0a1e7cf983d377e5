"""Functions of Tensors as ops: a whole network becomes one, and may run twice to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .gather import add_to, deliver_to_leaf, parts_of
from .tensor import Tensor, enable_grad, no_grad, propagate, remember


def vjp(f: Callable) -> Callable:
    """Turn a function of Tensors into an op: a network is an op too (vector-Jacobian product).

        y, backward = vjp(f)(*arrays)
        dx, dw = backward(dy)              # as often as wanted

    f returns a Tensor, or a tuple of them; then y is a tuple too, and backward takes as many dys.
    Float arrays reach f as Tensors, everything else as it is. Gradients of Tensors that f uses
    without being given them, such as a model's parameters, go where backward() would put them.
    """

    def op(*arrays, **options):
        inputs = [Tensor(a, requires_grad=True) if is_float(a) else a for a in arrays]
        with enable_grad():
            y = f(*inputs, **options)

        def backward(*dys):
            return _gradients_of(inputs, y, dys)

        return _arrays(y), backward

    return op


def remat(f: Callable, *inputs: Any) -> Any:
    """f(*inputs), but keeping only the inputs: f runs once more when its gradient is asked for.

    Less memory for more time (activation checkpointing: Chen et al. 2016, arXiv:1604.06174). f has
    to compute the same twice. Dropout does, because its mask depends only on its rng, as long as
    that is not a Generator, which would go on to other numbers.
    """
    with no_grad():
        y = _arrays(f(*inputs))
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    learns = [x.requires_grad if isinstance(x, Tensor) else None for x in inputs]

    def backward(*dys):
        again = [
            a if grad is None else Tensor(a, grad) for a, grad in zip(arrays, learns, strict=True)
        ]
        with enable_grad():
            y = f(*again)
        return _gradients_of(again, y, dys)

    return remember(y, backward, inputs, always=True)


def _gradients_of(inputs: list, y: Any, dys: tuple) -> tuple:
    """dL/dx for each Tensor x of `inputs` that wants one, None for the rest, given dL/dy = dy for
    the Tensor y, or for each of the tuple y."""
    found = {x: np.zeros_like(x.data) for x in inputs if isinstance(x, Tensor) and x.requires_grad}

    def deliver(leaf, dx):
        if leaf in found:
            for where, numbers in parts_of(dx):
                add_to(found[leaf], where, numbers)
        else:
            deliver_to_leaf(leaf, dx)

    ys = y if isinstance(y, tuple) else (y,)
    learn = [(y, dy) for y, dy in zip(ys, dys, strict=True) if y.requires_grad]
    if learn:
        propagate([y for y, _ in learn], [dy for _, dy in learn], deliver, keep_graph=True)
    return tuple(found.get(x) if isinstance(x, Tensor) else None for x in inputs)


def _arrays(y: Any) -> Any:
    """The array in a Tensor, or those in a tuple of Tensors."""
    if isinstance(y, tuple) and y:
        return tuple([_arrays(part) for part in y])
    if not isinstance(y, Tensor):
        raise TypeError(
            "vjp and remat need a function that returns a Tensor or a tuple of Tensors, not "
            f"{type(y).__name__}"
        )
    return y.data


def is_float(a: Any) -> bool:
    return hasattr(a, "dtype") and a.dtype.kind == "f"
