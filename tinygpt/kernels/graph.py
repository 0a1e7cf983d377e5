"""A CUDA graph: launches that are recorded once, and then start together, as often as wanted.

A kernel in it gets the same arguments each time. So what is another number in each step, the batch,
keys of dropout, learning rates, is no argument: it lies in memory of the GPU, and arguments say
where. Outside of a recording, sent() copies it there; inside, it tells its place in a feed, which
whoever plays the recording fills and copies before.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import numpy as np

from ..backend import cupy
from ..ops.dropout import philox_key
from .gemm import cublas_handle
from .launch import address, ceil

ROOM = 1 << 20  # bytes of a feed beside the batch: keys, learning rates, tables of positions


class Feed:
    """Bytes of the CPU, `host`, that go to the GPU in one copy, `device`, before a recording plays.

    batch: how many of them are for the batch. rng: the ints with which the keys of dropout begin in
    the step that is recorded.
    """

    def __init__(self, batch: int, rng: tuple[int, ...], like: Any):
        self.host = np.zeros(batch + ROOM, np.uint8)
        self.device = np.zeros(batch + ROOM, np.uint8, like=like)
        self.used = 0
        self.rng = rng
        self.keys: list[tuple[np.ndarray, tuple[int, ...]]] = []  # and what follows rng in each

    def room(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array in `host` that was not given out before."""
        start = ceil(self.used, 16) * 16
        self.used = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self.used > len(self.host):
            raise ValueError(f"a recorded step needs more than {ROOM} bytes beside its batch")
        return self.host[start : self.used].view(dtype).reshape(shape)

    def place(self, array: np.ndarray) -> Any:
        """Where an array in `host` arrives on the GPU. Any other is taken in, to stay as it is."""
        start = address(array) - address(self.host)
        if not 0 <= start < len(self.host):
            constant, array = array, self.room(array.shape, array.dtype)
            array[...] = constant
            start = address(array) - address(self.host)
        there = self.device[start : start + array.nbytes]
        return there.view(array.dtype).reshape(array.shape)

    def key(self, words: tuple[int, ...]) -> Any:
        """Where a key of dropout arrives."""
        n = len(self.rng)
        assert words[:n] == self.rng
        self.keys.append((self.room((2,), np.uint64), words[n:]))
        return self.place(self.keys[-1][0])

    def send(self, rng: tuple[int, ...]) -> None:
        """Bring it all to the GPU, with the keys of another step."""
        for key, rest in self.keys:
            key[...] = philox_key((*rng, *rest))
        self.device[: self.used] = np.asarray(self.host[: self.used], like=self.device)


_feed: ContextVar[Feed | None] = ContextVar("feed", default=None)


def sent(array: np.ndarray, like: Any) -> Any:
    """An array of the CPU, where `like` is."""
    feed = _feed.get()
    return np.asarray(array, like=like) if feed is None else feed.place(array)


def sent_key(words: tuple[int, ...], like: Any) -> Any:
    """The two numbers with which Philox draws for a tuple of ints, where `like` is."""
    feed = _feed.get()
    return np.asarray(philox_key(words), like=like) if feed is None else feed.key(words)


@contextlib.contextmanager
def _feeding(feed: Feed) -> Iterator[None]:
    token = _feed.set(feed)
    try:
        yield
    finally:
        _feed.reset(token)


def recorded(f: Callable, feed: Feed) -> tuple[Any, Callable]:
    """f(), without computing it: its result, which is nothing yet, and a function that computes it.

    The feed has to be sent before. The result is written over each time.
    """
    with _feeding(feed):
        return RECORDERS.get(type(feed.device), _by_capture)(f)


# How arrays of other types than CuPy's are recorded: the tests bring their own.
RECORDERS: dict[type, Callable] = {}


@functools.cache
def _recording_stream(device: int) -> Any:
    return cupy().cuda.Stream(non_blocking=True)


def _by_capture(f: Callable) -> tuple[Any, Callable]:
    cuda = cupy().cuda
    cupy().get_default_memory_pool().free_all_blocks()  # what a step needs, the graph gets anew
    stream, pool = _recording_stream(cuda.runtime.getDevice()), cuda.MemoryPool()
    with stream, cuda.using_allocator(pool.malloc):
        cublas_handle()  # of this stream: nothing may be allocated for it later
        stream.begin_capture()
        try:
            result = f()
        except BaseException:
            with contextlib.suppress(RuntimeError):
                stream.end_capture()
            raise
        graph = stream.end_capture()

    def play() -> None:
        graph.launch()

    # What the graph reads and writes is in memory that nobody else may get while it is there.
    play.kept = pool  # type: ignore[attr-defined]
    return result, play
