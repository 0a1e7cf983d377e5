"""Activations: kernels in cuda/gelu.cu and cuda/pointwise.cu."""

from __future__ import annotations

from collections.abc import Callable

from .. import ops
from .launch import ceil, contiguous, empty, launch, stored


def _activation(op: Callable, file: str) -> Callable:
    """The twin of an op y = f(x) on every element. Saves x."""
    name = op.__name__

    def twin(x):
        if not stored(x):
            return op(x)
        x = contiguous(x)
        y = empty(x)
        grid = (ceil(x.size, 4 * 256),), (256,)
        launch(file, f"{name}_forward", x, *grid, (y, x, x.size))

        def backward(dy):
            dx = empty(x)
            launch(file, f"{name}_backward", x, *grid, (dx, contiguous(dy), x, x.size))
            return (dx,)

        return y, backward

    return twin


gelu = _activation(ops.gelu, "gelu.cu")
gelu_tanh = _activation(ops.gelu_tanh, "gelu.cu")
relu = _activation(ops.relu, "pointwise.cu")
relu2 = _activation(ops.relu2, "pointwise.cu")
silu = _activation(ops.silu, "pointwise.cu")
