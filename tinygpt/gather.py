"""Where the gradients of leaves go: into .grad, apart from it, or into it in turn."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

LARGE = 1 << 18  # numbers in a leaf from which on no thread gets a copy of its gradient

_gathered: ContextVar[Gathered | None] = ContextVar("gathered", default=None)


def deliver_to_leaf(leaf: Any, dx: Any) -> None:
    """Add dx to the gradient of a leaf, or to what is gathered in its place.

    dx may come in parts: an iterator over (where, numbers): dx[where] = numbers, 0 elsewhere.
    So it is never there as a whole, where it would be as large as a vocabulary. Or it is a function
    that adds it to a C-contiguous array, which it also returns: a product on a GPU adds as it goes.
    """
    gathered = _gathered.get()
    if gathered is not None:
        gathered.add(leaf, dx)
    else:
        for where, numbers in parts_of(dx):
            add_to_grad(leaf, where, numbers)


def add_to_grad(leaf: Any, where: Any, numbers: Any) -> None:
    if leaf.grad is None:
        leaf.grad = np.zeros_like(leaf.data)
    add_to(leaf.grad, where, numbers)


def add_to(array: Any, where: Any, numbers: Any) -> None:
    if callable(numbers) and array.flags.c_contiguous:
        numbers(array)
    elif callable(numbers):
        array += numbers(np.zeros(array.shape, array.dtype, like=array))
    elif where is ...:
        array += numbers  # array[...] += would, on a GPU, also copy the array onto itself
    else:
        array[where] += numbers


def parts_of(dx: Any) -> Iterable[tuple[Any, Any]]:
    return [(..., dx)] if hasattr(dx, "shape") or callable(dx) else dx


class Gathered(dict):
    """{leaf: its gradient}"""

    def add(self, leaf: Any, dx: Any) -> None:
        """Add dx to the gradient of a leaf. Others may hold dx too, so it is never written to."""
        if not hasattr(dx, "shape"):
            parts, dx = parts_of(dx), np.zeros_like(leaf.data)
            for where, numbers in parts:
                add_to(dx, where, numbers)
        self[leaf] = self[leaf] + dx if leaf in self else dx


@contextlib.contextmanager
def gather_gradients(into: Gathered | None = None) -> Iterator[Gathered]:
    """Inside it, backward() fills the dict it gives, {leaf: gradient}, and leaves .grad alone."""
    gathered = Gathered() if into is None else into
    token = _gathered.set(gathered)
    try:
        yield gathered
    finally:
        _gathered.reset(token)


class Turns:
    """The order in which n threads add to gradients that they share.

    Each thread numbers its additions. Those numbered 0 come first, thread by thread, then those
    numbered 1, and so on; only, a thread may run ahead as long as it adds to other leaves. Where
    all run the same ops, as on pieces of one batch, every leaf gets its additions in one fixed
    order: the same bits each time. An addition only ever waits for some with lower numbers, or the
    same number and an earlier thread, so there is always one that need not wait.
    """

    def __init__(self, n: int):
        self.made: list[float] = [0] * n  # additions by each thread; infinite once it has left
        self.changed = threading.Condition()

    def add(self, thread: int, leaf: Any, where: Any, numbers: Any, before: float) -> None:
        """Add to leaf.grad[where] once it is this thread's turn, which is not until every other
        thread has made `before` additions."""
        number = self.made[thread]

        def ready():
            return min(self.made) >= before and min(self.made[:thread], default=math.inf) > number

        with self.changed:
            self.changed.wait_for(ready)
            add_to_grad(leaf, where, numbers)
            self.made[thread] += 1
            self.changed.notify_all()

    def leave(self, thread: int) -> None:
        """This thread adds nothing more: nobody waits for it."""
        with self.changed:
            self.made[thread] = math.inf
            self.changed.notify_all()


class GatheredInTurn(Gathered):
    """What one thread gathers, of small leaves. The gradients of large ones go to .grad at once, in
    turn: one more copy of them for each thread would be as much memory as the model again. So do
    those that come as functions, where there is only one thread."""

    def __init__(self, turns: Turns, thread: int):
        super().__init__()
        self.turns, self.thread = turns, thread
        self.last: dict[Any, float] = {}  # how many additions there were after that to a leaf

    def add(self, leaf: Any, dx: Any) -> None:
        alone = len(self.turns.made) == 1
        if leaf.size < LARGE and not (alone and callable(dx)):
            super().add(leaf, dx)
            return
        before = self.last.get(leaf, 0)
        for where, numbers in parts_of(dx):
            self.turns.add(self.thread, leaf, where, numbers, before)
        self.last[leaf] = self.turns.made[self.thread]
