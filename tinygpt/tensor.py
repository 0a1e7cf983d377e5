"""Tensor, and how gradients travel back through what happened to it."""

from __future__ import annotations

import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import kernels, ops
from .backend import as_array
from .backward_options import backward_options
from .gather import deliver_to_leaf

_numbers = itertools.count()
_grad_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)


class Node:
    """One op that ran. Nodes point back at those they came from, and nothing points forward."""

    __slots__ = ("number", "backward", "sources", "parts")

    def __init__(self, backward: Callable, sources: list):
        self.number = next(_numbers)  # a node is newer than everything it was computed from
        self.backward: Callable | None = backward  # None once it has been used
        self.sources = sources  # for each input: a leaf Tensor, (node, slot), or None: a constant
        self.parts: Any = ()  # of an op with several results, the (shape, dtype) of each


def apply(op: Callable, *inputs: Any, **options: Any) -> Any:
    """Run `op` on the arrays inside `inputs`, and remember how to go back.

    op(*arrays, **options) returns (y, backward), as in tinygpt.ops. Inputs that are not Tensors are
    constants. Returns a Tensor, or a tuple of them for an op with several results. Where the first
    array is not NumPy's, the op's twin may take its place (see tinygpt.kernels).
    """
    arrays = [x.data if isinstance(x, Tensor) else x for x in inputs]
    if type(arrays[0]) is not np.ndarray:
        op = kernels.twin(op, arrays)
    y, backward = op(*arrays, **options)
    return remember(y, backward, inputs)


def remember(y: Any, backward: Callable, inputs: tuple, always: bool = False) -> Any:
    """Wrap the result of an op, with a node behind it if an input (or `always`) wants gradients."""
    sources: list = []
    for x in inputs:
        wanted = isinstance(x, Tensor) and x.requires_grad
        sources.append((x._origin or x) if wanted else None)
        always = always or wanted
    node = Node(backward, sources) if always and _grad_enabled.get() else None
    if not isinstance(y, tuple):
        return _result(y, node, 0)
    if node is not None:
        node.parts = [(part.shape, part.dtype) for part in y]
    return tuple([_result(part, node, slot) for slot, part in enumerate(y)])


def _result(array: Any, node: Node | None, slot: int) -> Tensor:
    y = Tensor.__new__(Tensor)
    y.data = as_array(array)
    y.grad = None
    y.requires_grad = node is not None
    y._origin = None if node is None else (node, slot)
    return y


def propagate(ys: list, dys: Any, deliver: Callable, keep_graph: bool = False) -> None:
    """Carry each dy = dL/dy back from its y, newest node first; deliver(leaf, dx) takes what comes.

    Newest first means that when a node's turn comes, all that used its results have had theirs: its
    gradient is complete. What it saved is freed as soon as its turn is over.
    """
    waiting: dict[Node, list] = {}  # the gradients of a node's results, as far as they are known
    newest: list[tuple[int, Node]] = []  # the same nodes, as a heap
    sources, dxs = [y._origin or y for y in ys], dys
    while True:
        for i, source in enumerate(sources):
            if source is None:
                continue
            if isinstance(source, Tensor):
                deliver(source, dxs[i])
                continue
            node, slot = source
            dys = waiting.get(node)
            if dys is None:
                dys = waiting[node] = [None] * (len(node.parts) or 1)
                heapq.heappush(newest, (-node.number, node))
            dx = dxs[i] if dys[slot] is None else dys[slot] + dxs[i]  # used twice: a sum
            dys[slot] = as_array(dx)
        dxs = ()  # what the gradients of leaves were computed from is not needed any more
        if not newest:
            return
        _, node = heapq.heappop(newest)
        sources, dxs = node.sources, _gradients(node, waiting.pop(node))
        if not keep_graph:
            node.backward, node.sources = None, []


def _gradients(node: Node, dys: list) -> tuple:
    """Call the node's backward, telling it as much as it takes."""
    backward = node.backward
    if backward is None:
        raise RuntimeError("backward() was here and freed what was saved; compute the loss again")
    if node.parts:
        for slot, (shape, dtype) in enumerate(node.parts):
            if dys[slot] is None:  # this result was never used
                dys[slot] = np.zeros(shape, dtype, like=next(dy for dy in dys if dy is not None))
    if not getattr(backward, "__defaults__", None):
        return backward(*dys)
    return backward(*dys, **backward_options(backward, node.sources))


@contextlib.contextmanager
def _with(variable: ContextVar, value: Any) -> Iterator[Any]:
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)


def no_grad() -> contextlib.AbstractContextManager:
    """Inside `with no_grad():` nothing is remembered, so nothing can be differentiated."""
    return _with(_grad_enabled, False)


def enable_grad() -> contextlib.AbstractContextManager:
    """Undoes an outer no_grad()."""
    return _with(_grad_enabled, True)


def _method(op: Callable) -> Callable[..., Any]:
    return lambda self, *inputs, **options: apply(op, self, *inputs, **options)


def _operator(op: Callable) -> Callable[..., Any]:
    return lambda self, other: apply(op, self, other)


def _reflected(op: Callable) -> Callable[..., Any]:
    return lambda self, other: apply(op, other, self)


class Tensor:
    """An array that remembers what it was computed from.

    data: an array, or what np.asarray takes; arrays are not copied. requires_grad: whether
    dL/d(this) is wanted; TypeError unless data holds floats.

    x.grad is None until a backward() reaches x, then an array like x.data, to which further calls
    add. Only Tensors made by hand (leaves) keep it.
    """

    __slots__ = ("data", "grad", "requires_grad", "_origin", "__weakref__")
    __array_ufunc__ = None  # so that ndarray * Tensor asks the Tensor

    def __init__(self, data: Any, requires_grad: bool = False):
        if isinstance(data, Tensor):
            raise TypeError("this is a Tensor already; for one without its history use x.detach()")
        self.data = data if hasattr(data, "__array_function__") else np.asarray(data)
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(f"only floats have gradients, and this array holds {self.data.dtype}")
        self.grad: Any = None
        self.requires_grad = requires_grad
        self._origin: tuple[Node, int] | None = None  # the node that made it, as which result

    def backward(self, grad: Any = None) -> None:
        """Add dL/dx to x.grad for every leaf x that led here, given dL/d(this) = grad.

        grad has this Tensor's shape; for a single number it may be left out, and is 1.
        Frees the graph as it goes: a second call is a RuntimeError.
        """
        if not self.requires_grad:
            raise RuntimeError("no Tensor with requires_grad=True led here, outside of no_grad()")
        if grad is None and self.data.size != 1:
            raise ValueError(
                f"backward() starts from one number, and this has shape {self.shape}; reduce it "
                "first, as a loss does with mean(), or pass its gradient"
            )
        if grad is not None and np.shape(grad) != self.shape:
            raise ValueError(f"grad has shape {np.shape(grad)}, the Tensor has {self.shape}")
        dy = np.empty_like(self.data)
        dy[...] = 1.0 if grad is None else grad
        propagate([self], [dy], deliver_to_leaf)

    shape = property(lambda self: self.data.shape)
    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    T = property(lambda self: self.transpose())

    def item(self) -> float:
        """The one number in it, as a Python number."""
        return self.data.item()

    def detach(self) -> Tensor:
        """The same array without its history: a constant."""
        return Tensor(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.data)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="Tensor(")
        return f"Tensor({body}, dtype={self.dtype}, requires_grad={self.requires_grad})"

    # x + y asks x first; y + x, for a y that is not a Tensor, asks x second.
    __add__, __radd__ = _operator(ops.add), _reflected(ops.add)
    __sub__, __rsub__ = _operator(ops.subtract), _reflected(ops.subtract)
    __mul__, __rmul__ = _operator(ops.multiply), _reflected(ops.multiply)
    __truediv__, __rtruediv__ = _operator(ops.divide), _reflected(ops.divide)
    __pow__, __rpow__ = _operator(ops.power), _reflected(ops.power)
    __matmul__, __rmatmul__ = _operator(ops.matmul), _reflected(ops.matmul)
    __neg__, __getitem__ = _method(ops.negative), _method(ops.index)

    exp, log, tanh, sigmoid = map(_method, (ops.exp, ops.log, ops.tanh, ops.sigmoid))
    relu, gelu, silu, softmax = map(_method, (ops.relu, ops.gelu, ops.silu, ops.softmax))
    sum, mean, max = map(_method, (ops.sum, ops.mean, ops.max))

    def reshape(self, *shape) -> Tensor:
        shape = shape[0] if isinstance(shape[0], tuple) else shape
        return apply(ops.reshape, self, shape=shape)

    def transpose(self, *axes) -> Tensor:
        axes = axes[0] if axes and isinstance(axes[0], tuple) else axes
        return apply(ops.transpose, self, axes=axes or None)
