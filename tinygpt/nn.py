"""Layers: parameters with names, and the ops that use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from . import functional as F
from .backend import to_device, to_numpy
from .tensor import Tensor


class Parameter(Tensor):
    """A Tensor that a model learns.

    is_table: whether its rows are looked up or scored one by one (an embedding, a head) rather than
    multiplied as a matrix. Muon leaves tables to AdamW.
    """

    __slots__ = ("is_table",)

    def __init__(self, data: Any, is_table: bool = False):
        super().__init__(data, requires_grad=True)
        self.is_table = is_table


class Module:
    """A tree of Parameters: its attributes, and lists of Modules, in the order they were set."""

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) for each, with names such as h.0.attn.c_attn.weight."""
        for name, value in vars(self).items():
            if isinstance(value, Parameter):
                yield prefix + name, value
            elif isinstance(value, Module):
                yield from value.named_parameters(f"{prefix}{name}.")
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield from item.named_parameters(f"{prefix}{name}.{i}.")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes")

    def parameters(self) -> list[Parameter]:
        return [p for _, p in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters():
            p.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """{name: array} of every parameter (the arrays themselves where they are on the CPU)."""
        return {name: to_numpy(p.data) for name, p in self.named_parameters()}

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Copy `arrays` into the parameters.

        ValueError unless all names and shapes agree; then nothing has been changed.
        """
        own = dict(self.named_parameters())
        missing = [name for name in own if name not in arrays]
        unknown = [name for name in arrays if name not in own]
        if missing or unknown:
            raise ValueError(
                f"parameters do not match: missing {missing}, not in the model {unknown}"
            )
        for name, p in own.items():
            if np.shape(arrays[name]) != p.shape:
                raise ValueError(f"{name} has shape {np.shape(arrays[name])}, not {p.shape}")
        for name, p in own.items():
            p.data[...] = np.asarray(arrays[name], like=p.data)

    def to(self, device: str) -> Module:
        """Move the parameters to "cpu" or "cuda", in place; do it before building an optimizer."""
        for p in self.parameters():
            p.data = to_device(p.data, device)
            p.grad = None
        return self


def make_room(module: Module) -> None:
    """Give memory to the weights that rng.NoWeights drew, as yet without values."""
    for p in module.parameters():
        if not p.data.flags.writeable:
            p.data = np.empty(p.shape, p.dtype)


class Linear(Module):
    """y = x @ weight + bias.   x (..., n_in) -> y (..., n_out); weight is stored (n_in, n_out)."""

    def __init__(
        self, n_in: int, n_out: int, rng, bias: bool = True, std: float = 0.02, dtype="float32"
    ):
        self.weight = Parameter(rng.normal(0.0, std, (n_in, n_out)).astype(dtype))
        self.bias = Parameter(np.zeros(n_out, dtype)) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Embedding(Module):
    """y = weight[ids].   ids (...) ints below n -> y (..., n_embd)."""

    def __init__(self, n: int, n_embd: int, rng, std: float = 0.02, dtype="float32"):
        self.weight = Parameter(rng.normal(0.0, std, (n, n_embd)).astype(dtype), is_table=True)

    def __call__(self, ids: Any) -> Tensor:
        return F.embedding(ids, self.weight)


class LayerNorm(Module):
    """Mean 0 and variance 1 along the last axis, then * weight + bias."""

    def __init__(self, n: int, bias: bool = True, eps: float = 1e-5, dtype="float32"):
        self.weight = Parameter(np.ones(n, dtype))
        self.bias = Parameter(np.zeros(n, dtype)) if bias else None
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight, self.bias, eps=self.eps)

    def add_and_norm(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, ...]:
        """(s, the norm of s), where s = x + h; or s = x, where h is None."""
        return F.add_layer_norm(x, h, self.weight, self.bias, eps=self.eps)


class RMSNorm(Module):
    """Root mean square 1 along the last axis, then * weight."""

    def __init__(self, n: int, eps: float = 1e-5, dtype="float32"):
        self.weight = Parameter(np.ones(n, dtype))
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight, eps=self.eps)

    def add_and_norm(self, x: Tensor, h: Tensor | None) -> tuple[Tensor, ...]:
        """(s, the norm of s), where s = x + h; or s = x, where h is None."""
        return F.add_rms_norm(x, h, self.weight, eps=self.eps)


def check_ids(name: str, ids: Any, n: int, ignored: int | None = None) -> np.ndarray:
    """`ids` as an int64 array with entries in 0 .. n-1 (or equal to `ignored`); else ValueError.

    Checked here, because indexing would wrap a negative id around, and on a GPU a large one too.
    """
    ids = ids.data if isinstance(ids, Tensor) else ids
    try:
        ids = ids if hasattr(ids, "dtype") else np.asarray(ids)
    except ValueError:
        raise ValueError(f"{name} must be rows of equal length, of integers") from None
    if ids.size == 0:  # before the dtype: NumPy takes an empty list for floats
        raise ValueError(f"{name} is empty: its shape is {ids.shape}; give one id or more")
    if ids.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, not {ids.dtype}")
    wrong = (ids < 0) | (ids >= n)
    if ignored is not None:
        wrong &= ids != ignored
    if wrong.any():
        raise ValueError(f"{name} holds {int(ids[wrong][0])}, which is not in 0 .. {n - 1}")
    return ids.astype("int64", copy=False)
