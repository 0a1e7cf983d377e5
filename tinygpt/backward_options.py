"""What the backward of an op is told beside its dys: no more than it has parameters for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def backward_options(backward: Callable, sources: list) -> dict[str, Any]:
    """The optional arguments of `backward`, by name.

    needs: which gradients are wanted, as each may cost a product.
    in_parts: whether that of the second input may come in parts (see gather.py).
    to_leaf: which gradients go to leaves, and may come as functions that add them (see gather.py).

    sources: for each input a leaf, (node, slot) or None, as in tensor.Node.
    """
    takes = backward.__code__.co_varnames
    leaves = [not (source is None or isinstance(source, tuple)) for source in sources]
    options: dict[str, Any] = {}
    if "needs" in takes:
        options["needs"] = [source is not None for source in sources]
    if "in_parts" in takes:
        options["in_parts"] = leaves[1]
    if "to_leaf" in takes:
        options["to_leaf"] = leaves
    return options
