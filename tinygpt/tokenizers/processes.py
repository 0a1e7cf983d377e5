"""The same work for many items, here or in several processes, with few items under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_work: Callable[[Any], Any]  # what a process of the pool does with an item


def in_processes(
    make: Callable[..., Callable], arguments: tuple, items: Iterable, processes: int
) -> Iterator:
    """work(item) for each item, in their order, where work = make(*arguments).

    Each process makes its own `work`, so `make` is a function at the top of a module, and its
    arguments are plain data. Items are taken as results are asked for, a few ahead: they may be
    more than memory holds.

    Processes are spawned, not forked: a fork of a process with threads may wait forever for a lock
    that one of them held. So a script that asks for several has to begin its work under
    `if __name__ == "__main__":`.
    """
    if processes < 1:
        raise ValueError(f"processes={processes}: expected at least 1")
    if processes == 1:
        yield from map(make(*arguments), items)
        return
    import multiprocessing  # only here: importing it takes long

    with multiprocessing.get_context("spawn").Pool(processes, _start, (make, arguments)) as pool:
        under_way: deque = deque()
        for item in items:
            under_way.append(pool.apply_async(_do, (item,)))
            if len(under_way) > 2 * processes:
                yield under_way.popleft().get()
        while under_way:
            yield under_way.popleft().get()


def _start(make: Callable[..., Callable], arguments: tuple) -> None:
    global _work
    _work = make(*arguments)


def _do(item: Any) -> Any:
    return _work(item)
