"""In which precision a GPU multiplies matrices; everything else stays as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..backend import INSTALL

PRECISIONS = ("float32", "tf32", "bfloat16")

_precision: ContextVar[str] = ContextVar("precision", default="float32")


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Inside `with precision("bfloat16"):` a GPU's products and attention work on bfloat16.

    Their inputs are rounded to it, sums are kept in float32, and so are weights, gradients, norms,
    the residual stream and the loss. "tf32" rounds float32 inputs of products to 10 bits of
    fraction, inside the product only. "float32" is the default. On a CPU nothing changes.
    ValueError for any other name.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, not {name!r}")
    if name == "bfloat16":
        _bfloat16()
    token = _precision.set(name)
    try:
        yield
    finally:
        _precision.reset(token)


def for_products(x: Any) -> Any:
    """x as products take it: float32 is rounded to bfloat16 where that is the precision."""
    rounds = _precision.get() == "bfloat16" and x.dtype == np.float32
    return x.astype(_bfloat16()) if rounds else x


def tf32() -> bool:
    """Whether products of float32 may round their inputs."""
    return _precision.get() == "tf32"


def _bfloat16() -> np.dtype:
    """The dtype, which NumPy and CuPy know only with the help of ml_dtypes."""
    try:
        import ml_dtypes
    except ImportError as error:
        raise RuntimeError(
            f'precision "bfloat16" needs ml_dtypes, which is not installed; {INSTALL}'
        ) from error
    return np.dtype(ml_dtypes.bfloat16)
