"""Watch a backward pass: the ops behind a loss, what each keeps for it, what reaches each."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..gather import gather_gradients
from ..tensor import Node, Tensor


@dataclass
class Saved:
    """An array that the backward of an op mentions.

    name: what it is called there; "saved[0][2]" is a part of a list. leaf: the name of the leaf of
    whose memory it is (a parameter, which is there anyway), or None.
    """

    name: str
    shape: tuple[int, ...]
    nbytes: int
    leaf: str | None


@dataclass
class Vertex:
    """An op that ran (multiply, linear, ...), or a leaf: a Tensor with requires_grad made by hand.

    shapes: of its results; most ops have one. grad_norm: the root of the sum of squares of the
    gradient that arrived at it, dL/d(its results).
    """

    name: str
    is_leaf: bool
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    grad_norm: float = 0.0
    saved: list[Saved] = field(default_factory=list)


@dataclass
class Graph:
    """vertices: inputs first, the loss last. edges: (from, to) as numbers of vertices, one for each
    input of an op, in its order. saved_bytes: of the memory that backward keeps, shared memory
    counted once and leaves not at all. Constants are left out."""

    vertices: list[Vertex]
    edges: list[tuple[int, int]]
    saved_bytes: int


def trace(loss: Tensor, grad: Any = None, /, **names: Tensor) -> Graph:
    """Run loss.backward(grad) and write down what happens.

    names: what to call the leaves: trace(y, x=x, w=w) or trace(y, **dict(m.named_parameters())).
    Afterwards all is as before: the .grad of leaves, and the graph, so that backward() may follow.
    Its errors are those of backward(); TypeError for what is not a Tensor.
    """
    for name, tensor in {"the loss": loss, **names}.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} should be a Tensor, not {type(tensor).__name__}")
    nodes = _nodes_behind(loss)
    called = {x: name for name, x in names.items() if x._origin is None}
    called |= {x: called.get(x, "leaf") for x in _leaves_of(loss, nodes)}
    leaves = {x: Vertex(called[x], True) for x in _leaves_of(loss, nodes)}
    ops = {node: Vertex(_name(node.backward), False) for node in nodes}

    saved_bytes = _note_what_is_saved(ops, called)
    gradients = _watched_backward(loss, grad, ops)
    for leaf, vertex in leaves.items():
        vertex.shapes = [leaf.shape]
        vertex.grad_norm = float(np.linalg.norm(gradients[leaf]))

    number = {thing: i for i, thing in enumerate([*leaves, *ops])}
    edges = [
        (number[source if isinstance(source, Tensor) else source[0]], number[node])
        for node in nodes
        for source in node.sources
        if source is not None
    ]
    return Graph([*leaves.values(), *ops.values()], edges, saved_bytes)


def _nodes_behind(loss: Tensor) -> list[Node]:
    """Every node that led to `loss`, oldest first."""
    found: set[Node] = set()
    waiting = [loss._origin[0]] if loss._origin else []
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [source[0] for source in node.sources if isinstance(source, tuple)]
    return sorted(found, key=lambda node: node.number)


def _leaves_of(loss: Tensor, nodes: list[Node]) -> list[Tensor]:
    """The leaves, in the order of their first use."""
    if loss.requires_grad and not nodes:
        return [loss]
    used = [source for node in nodes for source in node.sources if isinstance(source, Tensor)]
    return list(dict.fromkeys(used))


def _watched_backward(loss: Tensor, grad: Any, ops: dict[Node, Vertex]) -> dict[Tensor, Any]:
    """loss.backward(grad), noting in the Vertex of each node what arrives. -> {leaf: gradient}"""
    before = {node: (node.backward, node.sources) for node in ops}
    for node, op in ops.items():
        if node.backward is not None:
            node.backward = _watched(node.backward, op)
    try:
        with gather_gradients() as gradients:
            loss.backward(grad)
    finally:
        for node, (backward, sources) in before.items():
            node.backward, node.sources = backward, sources
    return gradients


def _watched(backward: Callable, op: Vertex) -> Callable:
    def watched(*dys):
        op.shapes = [dy.shape for dy in dys]
        op.grad_norm = math.hypot(*[float(np.linalg.norm(dy)) for dy in dys])
        return backward(*dys)

    return watched


# ---- what a backward mentions -------------------------------------------------------------------


def _note_what_is_saved(ops: dict[Node, Vertex], leaves: dict[Tensor, str]) -> int:
    """Fill in `saved` of each op. -> the bytes of all memory that is kept, but for the leaves'."""
    kept: dict[int, int] = {}
    for node, op in ops.items():
        for name, array in _arrays(node.backward):
            owners = (leaf for x, leaf in leaves.items() if np.may_share_memory(x.data, array))
            owner = next(owners, None)
            op.saved.append(Saved(name, array.shape, array.nbytes, owner))
            if owner is None:
                memory = _memory(array)
                kept[id(memory)] = memory.nbytes
    return sum(kept.values())


def _name(backward: Any) -> str:
    """multiply, for the function multiply.<locals>.backward."""
    path = getattr(backward, "__qualname__", type(backward).__name__).split(".<locals>.")
    return path[-2] if len(path) > 1 else path[0]


def _arrays(backward: Any) -> list[tuple[str, Any]]:
    """(name, array) for all that it mentions; of an array and itself in another shape, one."""
    found: list[tuple[str, Any]] = []
    for name, array in _mentioned(backward, "", set()):
        same = (a for _, a in found if a.size == array.size and np.shares_memory(a, array))
        if next(same, None) is None:
            found.append((name, array))
    return found


def _mentioned(thing: Any, name: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """The arrays in the closure of a function, and in those of functions and lists therein."""
    if isinstance(thing, Tensor):
        yield name, thing.data
    elif hasattr(thing, "__array_function__"):
        yield name, thing
    elif isinstance(thing, list | tuple):
        for i, part in enumerate(thing):
            yield from _mentioned(part, f"{name}[{i}]", seen)
    elif getattr(thing, "__closure__", None) and id(thing) not in seen:
        seen.add(id(thing))  # a function may mention itself
        for inner, cell in zip(thing.__code__.co_freevars, thing.__closure__, strict=True):
            with contextlib.suppress(ValueError):  # an empty cell: a name never given a value
                yield from _mentioned(cell.cell_contents, inner, seen)


def _memory(array: Any) -> Any:
    """The array whose memory this is a view of, or the array itself."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
