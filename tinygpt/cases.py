"""Every op on small awkward arrays, for `python -m tinygpt gradcheck` and the tests.

    for case in cases():
        gradcheck(case.f, *case.arrays, allow_zero=case.allow_zero)

Values are of size 1 and away from kinks and ties, where there is no gradient to check. Sizes differ
from each other, so that a gradient in the wrong order does not fit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from . import ops
from .ops.rope import rope_tables
from .ops.scaled_dot_product_attention import BLOCK


class Case(NamedTuple):
    """f is an op, its options given through functools.partial; arrays are its arguments."""

    name: str  # the op's, then what is special: "softmax", "softmax, first axis"
    f: Callable
    arrays: tuple
    allow_zero: tuple  # arguments whose gradient really is 0, for gradcheck


def cases(rng: int = 0) -> Iterator[Case]:
    """Every case below, with numbers drawn from `rng`: the same int, the same numbers."""
    for name, make in TABLE.items():
        yield Case(name, *make(Draw(rng)))


class Draw:
    """Random arrays of the kinds that ops want."""

    def __init__(self, rng: int):
        self.rng = np.random.default_rng(rng)

    def __call__(self, *shape: int) -> np.ndarray:
        """Numbers from the standard normal distribution."""
        return self.rng.standard_normal(shape)

    def positive(self, *shape: int) -> np.ndarray:
        """Numbers from 0.5 to 2."""
        return self.rng.uniform(0.5, 2, shape)

    def apart(self, *shape: int) -> np.ndarray:
        """Numbers at least 0.1 from each other and 0.05 from 0: no ties, no kinks."""
        n = int(np.prod(shape))
        return (self.rng.permutation(n) - n // 2 + 0.5).reshape(shape) / 10

    def ids(self, V: int, *shape: int) -> np.ndarray:
        """Ints from 0 to V - 1."""
        return self.rng.integers(V, size=shape)

    def targets(self, V: int, *shape: int) -> np.ndarray:
        """Ints from 0 to V - 1, but about a third of them -1, which is to be ignored."""
        return np.where(self.rng.random(shape) < 1 / 3, -1, self.ids(V, *shape))

    def order(self, n: int) -> np.ndarray:
        """The numbers from 0 to n - 1, shuffled."""
        return self.rng.permutation(n)

    def mask(self, *shape: int) -> np.ndarray:
        """Booleans, about two thirds of them true."""
        return self.rng.random(shape) < 2 / 3


def use(op: Callable, *arrays: Any, allow_zero: tuple = (), **options: Any) -> tuple:
    """The rest of a Case: op(*arrays, **options)."""
    return functools.partial(op, **options) if options else op, arrays, allow_zero


def rope_of(d: Draw, *shape: int, start: int = 0) -> tuple:
    """Rotary embedding of x (..., T, D), whose first row stands at position `start`."""
    cos, sin = rope_tables(start + np.arange(shape[-2]), shape[-1], dtype="float64")
    return use(ops.rope, d(*shape), cos=cos, sin=sin)


def attention(d: Draw, q: tuple, kv: tuple, mask: tuple = (), **options: Any) -> tuple:
    """Attention over arrays of these shapes; with a mask of that shape, if one is given."""
    if mask:
        options["attn_mask"] = d.mask(*mask)
        options["attn_mask"][..., 1, :] = False  # query 1 sees nothing
    return use(ops.scaled_dot_product_attention, d(*q), d(*kv), d(*kv), **options)


def sliding(d: Draw, q: tuple, kv: tuple, **options: Any) -> tuple:
    """Attention with a window over arrays of these shapes."""
    return use(ops.sliding_window_attention, d(*q), d(*kv), d(*kv), **options)


TABLE: dict[str, Callable[[Draw], tuple]] = {
    # arithmetic
    "add": lambda d: use(ops.add, d(3, 4), d(3, 4)),
    "add, broadcast": lambda d: use(ops.add, d(3, 1, 5), d(4, 1)),
    "subtract": lambda d: use(ops.subtract, d(3, 4), d(3, 4)),
    "subtract, broadcast": lambda d: use(ops.subtract, d(4), d(2, 3, 1)),
    "multiply": lambda d: use(ops.multiply, d(3, 4), d(3, 4)),
    "multiply, broadcast": lambda d: use(ops.multiply, d(3, 1, 5), d(4, 1)),
    "multiply, one number": lambda d: use(ops.multiply, d(), d(3, 2)),
    "divide": lambda d: use(ops.divide, d(3, 4), d.positive(3, 4)),
    "divide, broadcast": lambda d: use(ops.divide, d(4, 1), -d.positive(3, 1, 5)),
    "negative": lambda d: use(ops.negative, d(3, 4)),
    "power, cube": lambda d: use(ops.power, d(3, 4), b=3),
    "power, root": lambda d: use(ops.power, d.positive(3, 4), b=0.5),
    "power, reciprocal": lambda d: use(ops.power, -d.positive(3, 4), b=-1),
    "power, exponents": lambda d: use(ops.power, d.positive(3, 1), d(2, 1, 4)),
    # pointwise
    "exp": lambda d: use(ops.exp, d(3, 4)),
    "log": lambda d: use(ops.log, d.positive(3, 4)),
    "tanh": lambda d: use(ops.tanh, d(3, 4)),
    "sigmoid": lambda d: use(ops.sigmoid, d(3, 4)),
    "relu": lambda d: use(ops.relu, d.apart(3, 4)),
    "relu2": lambda d: use(ops.relu2, d.apart(3, 4)),
    "silu": lambda d: use(ops.silu, d(3, 4)),
    "softcap": lambda d: use(ops.softcap, 2 * d(3, 4), cap=1.5),
    "gelu": lambda d: use(ops.gelu, 2 * d(3, 4)),
    "gelu_tanh": lambda d: use(ops.gelu_tanh, 2 * d(3, 4)),
    # reductions
    "sum": lambda d: use(ops.sum, d(3, 4)),
    "sum, first axis": lambda d: use(ops.sum, d(3, 4), axis=0),
    "sum, two axes": lambda d: use(ops.sum, d(2, 3, 4), axis=(0, -1)),
    "sum, axis kept": lambda d: use(ops.sum, d(2, 3, 4), axis=1, keepdims=True),
    "mean": lambda d: use(ops.mean, d(3, 4)),
    "mean, last axis": lambda d: use(ops.mean, d(2, 3, 4), axis=-1),
    "mean, two axes kept": lambda d: use(ops.mean, d(2, 3, 4), axis=(0, 2), keepdims=True),
    "max": lambda d: use(ops.max, d.apart(3, 4)),
    "max, last axis": lambda d: use(ops.max, d.apart(2, 3, 4), axis=-1),
    "max, two axes kept": lambda d: use(ops.max, d.apart(2, 3, 4), axis=(0, 2), keepdims=True),
    # shapes
    "reshape": lambda d: use(ops.reshape, d(2, 3, 4), shape=(4, -1)),
    "transpose": lambda d: use(ops.transpose, d(2, 3)),
    "transpose, three axes": lambda d: use(ops.transpose, d(2, 3, 4), axes=(1, -1, 0)),
    "index, one row": lambda d: use(ops.index, d(3, 4), key=-1),
    "index, slices": lambda d: use(ops.index, d(5, 4, 3), key=(slice(4, 0, -2), ..., None, 1)),
    "index, repeats": lambda d: use(ops.index, d(3, 4), key=np.array([[2, 0], [2, 2]])),
    "index, pairs": lambda d: use(ops.index, d(3, 4), key=(np.array([1, 1]), np.array([2, 2]))),
    "index, mask": lambda d: use(ops.index, d(3, 4), key=d.mask(3, 4)),
    "concatenate": lambda d: use(ops.concatenate, d(2, 3), d(1, 3), d(4, 3)),
    "concatenate, last axis": lambda d: use(ops.concatenate, d(2, 3), d(2, 1), axis=-1),
    "split": lambda d: use(ops.split, d(2, 9), sizes=[2, 4, 3]),
    "split, first axis": lambda d: use(ops.split, d(5, 2), sizes=[1, 4], axis=0),
    "where": lambda d: use(ops.where, d.mask(3, 4), d(3, 4), d(3, 4)),
    "where, broadcast": lambda d: use(ops.where, d.mask(3, 1, 5), d(4, 1), d(5)),
    # products
    "matmul": lambda d: use(ops.matmul, d(3, 5), d(5, 2)),
    "matmul, shared matrix": lambda d: use(ops.matmul, d(2, 4, 3, 5), d(5, 6)),
    "matmul, broadcast": lambda d: use(ops.matmul, d(4, 1, 3, 5), d(2, 5, 6)),
    "linear": lambda d: use(ops.linear, d(2, 4, 3), d(3, 5), d(5)),
    "linear, no bias": lambda d: use(ops.linear, d(4, 3), d(3, 5)),
    "linear, one row": lambda d: use(ops.linear, d(3), d(3, 5), d(5)),
    "embedding": lambda d: use(ops.embedding, d.ids(5, 2, 7), d(5, 3)),
    "embedding, few of many": lambda d: use(ops.embedding, np.array([40, 3, 40]), d(50, 2)),
    "dispatch": lambda d: use(ops.dispatch, d(4, 3), d.order(12)),
    "dispatch, once": lambda d: use(ops.dispatch, d(5, 3), d.order(5)),
    "combine": lambda d: use(ops.combine, d(12, 3), d(4, 3), d.order(12)),
    "combine, once": lambda d: use(ops.combine, d(5, 3), d(5, 1), d.order(5)),
    # softmax, norms, dropout, rope
    "softmax": lambda d: use(ops.softmax, d(2, 3, 4)),
    "softmax, first axis": lambda d: use(ops.softmax, d(3, 4), axis=0),
    "softmax, one score": lambda d: use(ops.softmax, d(3, 1), allow_zero=("x",)),
    "log_softmax": lambda d: use(ops.log_softmax, d(2, 3, 4)),
    "log_softmax, first axis": lambda d: use(ops.log_softmax, d(3, 4), axis=0),
    "layer_norm": lambda d: use(ops.layer_norm, d(2, 3, 5), d(5), d(5)),
    "layer_norm, no bias": lambda d: use(ops.layer_norm, d(3, 5), d(5), eps=0.1),
    "layer_norm, one row": lambda d: use(ops.layer_norm, d(5), d(5), d(5)),
    "rms_norm": lambda d: use(ops.rms_norm, d(2, 3, 5), d(5)),
    "rms_norm, no weight": lambda d: use(ops.rms_norm, d(3, 5), eps=0.1),
    "rms_norm, one row": lambda d: use(ops.rms_norm, d(5), d(5)),
    "add_layer_norm": lambda d: use(ops.add_layer_norm, d(2, 3, 5), d(2, 3, 5), d(5), d(5)),
    "add_rms_norm": lambda d: use(ops.add_rms_norm, d(2, 3, 5), d(2, 3, 5), d(5)),
    "add_rms_norm, no weight": lambda d: use(ops.add_rms_norm, d(3, 5), d(3, 5), eps=0.1),
    "dropout": lambda d: use(ops.dropout, d(3, 4), p=0.4, rng=(1, 2)),
    "dropout, part of a batch": lambda d: use(ops.dropout, d(5, 7), p=0.4, rng=3, first=35),
    "rope": lambda d: rope_of(d, 2, 3, 5, 4),
    "rope, later": lambda d: rope_of(d, 3, 6, start=100),
    # losses
    "cross_entropy": lambda d: use(ops.cross_entropy, d(3, 7), d.ids(7, 3)),
    "cross_entropy, some ignored": lambda d: use(ops.cross_entropy, d(2, 5, 3), d.targets(3, 2, 5)),
    "cross_entropy, all ignored": lambda d: use(
        ops.cross_entropy, d(2, 3), np.array([1, 1]), ignore_index=1, allow_zero=("logits",)
    ),
    "linear_cross_entropy": lambda d: use(
        ops.linear_cross_entropy, d(4, 3), d(7, 3), d.ids(7, 4)
    ),
    "linear_cross_entropy, some ignored": lambda d: use(
        ops.linear_cross_entropy, d(2, 5, 3), d(6, 3), d.targets(6, 2, 5)
    ),
    # attention
    "scaled_dot_product_attention": lambda d: attention(d, (2, 3, 5, 4), (2, 3, 7, 4)),
    "scaled_dot_product_attention, causal": lambda d: attention(
        d, (2, 3, 5, 4), (2, 3, 5, 4), is_causal=True
    ),
    "scaled_dot_product_attention, causal, more keys": lambda d: attention(
        d, (1, 2, 3, 4), (1, 2, 8, 4), is_causal=True
    ),
    "scaled_dot_product_attention, causal, more queries": lambda d: attention(
        d, (1, 2, 7, 4), (1, 2, 3, 4), is_causal=True
    ),
    "scaled_dot_product_attention, one query": lambda d: attention(
        d, (2, 4, 1, 3), (2, 2, 7, 3), is_causal=True
    ),
    "scaled_dot_product_attention, mask": lambda d: attention(
        d, (2, 3, 5, 4), (2, 3, 7, 4), mask=(2, 1, 5, 7), scale=0.8
    ),
    "scaled_dot_product_attention, grouped heads": lambda d: attention(
        d, (2, 6, 5, 3), (2, 2, 7, 3), mask=(6, 5, 7), is_causal=True
    ),
    "scaled_dot_product_attention, dropout": lambda d: attention(
        d, (2, 3, 5, 4), (2, 3, 7, 4), dropout_p=0.3, rng=5, first=3
    ),
    "scaled_dot_product_attention, blocks": lambda d: attention(
        d, (1, 2, 2 * BLOCK + 2, 3), (1, 2, 2 * BLOCK + 2, 3), is_causal=True
    ),
    "scaled_dot_product_attention, wide values": lambda d: use(
        ops.scaled_dot_product_attention, d(2, 4, 5, 3), d(2, 2, 7, 3), d(2, 2, 7, 5)
    ),
    "scaled_dot_product_attention, everything": lambda d: attention(
        d, (2, 4, BLOCK + 1, 3), (2, 2, BLOCK + 7, 3), mask=(BLOCK + 1, BLOCK + 7),
        is_causal=True, dropout_p=0.3, rng=(5, 6),
    ),
    "sliding_window_attention": lambda d: sliding(d, (2, 3, 7, 4), (2, 3, 7, 4), window=3),
    "sliding_window_attention, sinks": lambda d: sliding(
        d, (2, 6, 7, 4), (2, 2, 10, 4), window=3, sinks=2, scale=0.8
    ),
    "sliding_window_attention, blocks": lambda d: sliding(
        d, (1, 2, 2 * BLOCK + 2, 3), (1, 2, 2 * BLOCK + 5, 3), window=5
    ),
    "sliding_window_attention, everything": lambda d: use(
        ops.sliding_window_attention, d(2, 4, BLOCK + 7, 3), d(2, 2, BLOCK + 9, 3),
        d(2, 2, BLOCK + 9, 5), window=4, sinks=3, dropout_p=0.3, rng=(5, 6), first=8,
    ),
}  # fmt: skip
