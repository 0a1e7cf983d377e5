"""In which precision a GPU multiplies matrices; everything else stays as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..backend import INSTALL
from .launch import address

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")


@dataclass
class Precision:
    """What precision() sets: the name, and what is known as the products take it already."""

    name: str
    dtype: Any = None  # what products round float32 to, if anything
    copies: list[tuple[Any, Any]] = field(default_factory=list)  # flat weights, their copy


FLOAT32 = Precision("float32")

_precision: ContextVar[Precision] = ContextVar("precision", default=FLOAT32)


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Inside `with precision("bfloat16"):` a GPU's products and attention work on bfloat16.

    Their inputs are rounded to it, where a norm makes them by the norm. Sums are kept in float32,
    and so are weights, their gradients, the residual stream and the loss. "float16" rounds less and
    holds nothing above 65504 or much below 1e-7, so it needs a LossScale. "tf32" rounds float32
    inputs of products to 10 bits of fraction, inside the product only; so do the other two where
    products stay in float32, in Muon. "float32" is the default. On a CPU nothing changes.
    ValueError for any other name.

    Around a training loop it lets AdamW and Muon keep a rounded copy of the weights. So inside of
    it, change weights by optimizers only; to write into them otherwise, leave it, and enter it
    again.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, not {name!r}")
    dtypes = {"bfloat16": _bfloat16, "float16": lambda: np.dtype("float16")}
    token = _precision.set(Precision(name, dtypes.get(name, lambda: None)()))
    try:
        yield
    finally:
        _precision.reset(token)


def for_products(x: Any) -> Any:
    """x as products take it: float32 is rounded where that is the precision."""
    now = _precision.get()
    dtype = dtype_for_products(x)
    if dtype == x.dtype:
        return x
    if x.flags.f_contiguous and not x.flags.c_contiguous:  # transposed, and its copy will be, too
        return for_products(x.T).T
    for weights, copy in now.copies:
        start = (address(x) - address(weights)) // 4
        if 0 <= start < weights.size and x.flags.c_contiguous:
            return copy[start : start + x.size].reshape(x.shape)
    return x.astype(dtype)


def dtype_for_products(x: Any) -> Any:
    """The dtype in which products will take x: that in which whatever makes it may leave it."""
    now = _precision.get()
    return x.dtype if now.dtype is None or x.dtype != np.float32 else now.dtype


def copy_for_products(weights: Any) -> Any:
    """The copy of flat float32 weights that products take, for whoever changes weights to keep up
    to date; None where there is none to be kept."""
    now = _precision.get()
    if now.dtype is None:
        return None
    for known, copy in now.copies:
        if known is weights:
            return copy
    copy = weights.astype(now.dtype)
    now.copies.append((weights, copy))
    return copy


def tf32() -> bool:
    """Whether products of float32 may round their inputs: those of Muon in 16 bits, too."""
    return _precision.get().name != "float32"


def _bfloat16() -> np.dtype:
    """The dtype, which NumPy and CuPy know only with the help of ml_dtypes."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise RuntimeError(
            f'precision "bfloat16" needs ml_dtypes, which is not installed; {INSTALL}'
        ) from error
    return np.dtype(ml_dtypes.bfloat16)
