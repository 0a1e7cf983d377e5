"""Which part of which parameter of ours a tensor of theirs is.

A part is a view: what is written to it arrives in the parameter. So one table says how to load
(fill the view from the file) and how to export (write the view to a file). Where theirs is stored
(out, in), as torch does, the view is the transpose of ours, which is stored (in, out).

Each function takes a weight or a bias; the transpose of a vector is the vector.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np

View: TypeAlias = Callable[[np.ndarray, Any], np.ndarray]  # (array, GPTConfig) -> a view of it

# Our module, and what theirs calls each of its parts. {} is the number of a layer or an expert.
Table: TypeAlias = dict[str, list[tuple[str, View]]]


def same(w: np.ndarray, c: Any) -> np.ndarray:
    return w


def turned(w: np.ndarray, c: Any) -> np.ndarray:
    return w.T


def query(w: np.ndarray, c: Any) -> np.ndarray:
    """c_attn holds queries, keys and values side by side, (C, Q + K + K)."""
    return turned(w[..., : c.n_head * c.head_size], c)


def key(w: np.ndarray, c: Any) -> np.ndarray:
    first = c.n_head * c.head_size
    return turned(w[..., first : first + c.kv_heads * c.head_size], c)


def value(w: np.ndarray, c: Any) -> np.ndarray:
    return turned(w[..., (c.n_head + c.kv_heads) * c.head_size :], c)


def gate(w: np.ndarray, c: Any) -> np.ndarray:
    """c_fc of a gated layer holds the gate and what it lets through side by side, (C, 2 inner)."""
    return turned(w[..., : c.inner_size], c)


def up(w: np.ndarray, c: Any) -> np.ndarray:
    return turned(w[..., c.inner_size :], c)


def parts(table: Table, arrays: Mapping[str, np.ndarray], config: Any) -> dict[str, np.ndarray]:
    """{their name, as the table has it: the part of ours that it is}, for our arrays by name."""
    found = {}
    for ours, array in arrays.items():
        module, _, kind = ours.rpartition(".")  # h.0.attn.c_attn, weight
        numbers = re.findall(r"\.(\d+)(?=\.)", module)
        for theirs, view in table[re.sub(r"\.\d+(?=\.)", ".{}", module)]:
            found[f"{theirs.format(*numbers)}.{kind}"] = view(array, config)
    return found
