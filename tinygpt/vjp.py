"""Functions of Tensors as ops: a whole network becomes one, and may run twice to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .tensor import Tensor, deliver_to_leaf, enable_grad, no_grad, propagate, remember


def vjp(f: Callable) -> Callable:
    """Turn a function of Tensors into an op: a network is an op too (vector-Jacobian product).

        y, backward = vjp(f)(*arrays)
        dx, dw = backward(dy)              # as often as wanted

    Float arrays reach f as Tensors, everything else as it is. Gradients of Tensors that f uses
    without being given them, such as a model's parameters, go where backward() would put them.
    """

    def op(*arrays, **options):
        inputs = [Tensor(a, True) if is_float(a) else a for a in arrays]
        with enable_grad():
            y = f(*inputs, **options)
        if not isinstance(y, Tensor):
            raise TypeError(f"a function given to vjp returns one Tensor, not {type(y).__name__}")

        def backward(dy):
            found = {x: np.zeros_like(x.data) for x in inputs if isinstance(x, Tensor)}

            def deliver(leaf, dx):
                if leaf in found:
                    found[leaf] = found[leaf] + dx
                else:
                    deliver_to_leaf(leaf, dx)

            if y.requires_grad:
                propagate(y, dy, deliver, keep_graph=True)
            return tuple(found[x] if isinstance(x, Tensor) else None for x in inputs)

        return y.data, backward

    return op


def is_float(a: Any) -> bool:
    return hasattr(a, "dtype") and a.dtype.kind == "f"


def remat(f: Callable, *inputs: Any) -> Tensor:
    """f(*inputs), but keeping only the inputs: f runs once more when its gradient is asked for.

    Less memory for more time (activation checkpointing: Chen et al. 2016, arXiv:1604.06174). f has
    to compute the same twice; dropout does, because its mask depends only on its rng.
    """
    with no_grad():
        y = f(*inputs)
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]

    def backward(dy):
        _, run_back = vjp(f)(*arrays)
        return run_back(dy)

    return remember(y.data, backward, inputs, always=True)
