"""CUDA twins: where arrays are on a GPU, an op gives way to the same function, written as kernels.

A twin has its op's name, arguments and contract, and its kernels stand in cuda/, a file for an op.
On a CPU the op on the page is what runs, and nothing in this folder is looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from .. import ops
from .activations import gelu, gelu_tanh, relu, relu2, silu
from .attention import scaled_dot_product_attention, sliding_window_attention, split
from .cross_entropy import cross_entropy, linear_cross_entropy
from .dropout import dropout
from .embedding import embedding
from .fallback import combine
from .graph import Feed, recorded, sent
from .launch import has_kernels
from .linear import linear, matmul
from .loss_scale import LossScale
from .muon import muon
from .norms import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from .optimizers import adamw, clip
from .precision import PRECISIONS, copy_for_products, precision
from .sums import square_sum

__all__ = [
    "PRECISIONS",
    "TWINS",
    "Feed",
    "LossScale",
    "adamw",
    "clip",
    "copy_for_products",
    "has_kernels",
    "muon",
    "on_gpu",
    "plain",
    "precision",
    "recorded",
    "sent",
    "square_sum",
    "twin",
]

TWINS: dict[Callable, Callable] = {
    ops.add_layer_norm: add_layer_norm,
    ops.add_rms_norm: add_rms_norm,
    ops.combine: combine,
    ops.cross_entropy: cross_entropy,
    ops.dropout: dropout,
    ops.embedding: embedding,
    ops.gelu: gelu,
    ops.gelu_tanh: gelu_tanh,
    ops.layer_norm: layer_norm,
    ops.linear: linear,
    ops.linear_cross_entropy: linear_cross_entropy,
    ops.matmul: matmul,
    ops.relu: relu,
    ops.relu2: relu2,
    ops.rms_norm: rms_norm,
    ops.scaled_dot_product_attention: scaled_dot_product_attention,
    ops.silu: silu,
    ops.sliding_window_attention: sliding_window_attention,
    ops.split: split,
}

_plain: ContextVar[bool] = ContextVar("plain", default=False)


def twin(op: Callable, arrays: Sequence[Any]) -> Callable:
    """What to run instead of `op` on these arrays: its twin where there is one, else op itself."""
    found = TWINS.get(op)
    return found if found is not None and on_gpu(arrays[0]) else op


def on_gpu(x: Any) -> bool:
    """Whether kernels are to work on x: it is an array of a GPU, and we are not inside plain()."""
    return not _plain.get() and has_kernels(x)


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Inside `with plain():` only the ops run, on a GPU too: slower, and without our kernels."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)
