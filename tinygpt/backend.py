"""What the machine offers: devices, threads, memory, folders.

The only file that reads the environment:

    TINYGPT_THREADS   how many threads to train on (default: the cores this process may use)
    TINYGPT_DATA      a folder to look in for data files before anything is downloaded
    TINYGPT_CACHE     where downloads are kept (default: the platform's cache folder)
    TINYGPT_MALLOC    0 leaves the C library's allocator as it is (see keep_freed_memory)
"""

from __future__ import annotations

import contextvars
import ctypes
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

# ---- devices ------------------------------------------------------------------------------------


def cupy():
    """The CuPy module where it can be used; otherwise an error that says what to do."""
    try:
        import cupy
    except ImportError as error:
        raise RuntimeError(
            f'device "cuda" needs CuPy, which is not installed; {INSTALL}'
        ) from error
    if not cupy.cuda.is_available():
        raise RuntimeError(
            'device "cuda" needs an NVIDIA GPU and its driver, and CuPy finds none; '
            'try device "cpu", or check that nvidia-smi lists a GPU'
        )
    _check_that_it_computes(cupy)
    return cupy


INSTALL = (
    f'try: {shlex.quote(sys.executable)} -m pip install "tinygpt[cuda12]" '
    "(or [cuda13], for a driver of version 580 or newer)"
)


@functools.cache
def _check_that_it_computes(cupy) -> None:
    """A GPU and its driver are not enough: CuPy looks for NVRTC, which compiles its kernels, and
    for cuBLAS when they are first needed."""
    try:
        int(cupy.ones(2, "int32").sum())
        cupy.cuda.device.get_cublas_handle()
    except (RuntimeError, ImportError) as error:
        raise RuntimeError(
            f"CuPy finds a GPU but cannot compute on it ({error}); {INSTALL}"
        ) from error


def resolve_device(device: str) -> str:
    """Turn "auto" into "cuda" where a GPU can be used, else "cpu"; refuse what cannot be."""
    if device == "auto":
        try:
            cupy()
        except RuntimeError:
            return "cpu"
        return "cuda"
    if device == "cuda":
        cupy()
    elif device != "cpu":
        raise ValueError(f'device must be "auto", "cpu" or "cuda", not {device!r}')
    return device


def to_device(array: Any, device: str) -> Any:
    """The same numbers as an array on `device`, "cpu" or "cuda"."""
    if device == "cpu":
        return to_numpy(array)
    return cupy().asarray(array)


def to_numpy(array: Any) -> np.ndarray:
    """The same numbers as a NumPy array (a copy only if they were on a GPU)."""
    if hasattr(array, "get"):  # CuPy's way
        array = array.get()
    return np.asarray(array)


def bring(array: Any) -> Callable[[], np.ndarray]:
    """Begin to copy an array to the CPU; what is returned waits until it is there, and gives it.

    From a GPU it goes to pinned memory, while the GPU and the CPU go on with other things.
    """
    if type(array).__module__.partition(".")[0] != "cupy":
        return functools.partial(to_numpy, array)
    import cupyx

    there = cupyx.empty_pinned(array.shape, array.dtype)
    array.get(out=there, blocking=False)
    arrival = cupy().cuda.Event()
    arrival.record()

    def wait() -> np.ndarray:
        arrival.synchronize()
        return there

    return wait


def as_array(x: Any) -> Any:
    """Where an array would have no axes, NumPy gives a number instead: make it an array again."""
    if type(x) is np.ndarray:  # nearly always: the quick answer
        return x
    return np.asarray(x) if isinstance(x, np.generic) else x


# ---- threads ------------------------------------------------------------------------------------


@functools.cache
def threads() -> int:
    """How many threads training uses: TINYGPT_THREADS, or every core this process may run on."""
    setting = os.environ.get("TINYGPT_THREADS", "")
    if setting:
        if not setting.isdecimal() or int(setting) == 0:
            raise ValueError(f"TINYGPT_THREADS must be a whole number from 1 up, not {setting!r}")
        return int(setting)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _pool():
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(max(1, threads() - 1), thread_name_prefix="tinygpt")


def thread_map(f: Callable, items: Iterable) -> list:
    """[f(item) for item in items], for up to threads() items, each on a thread of its own.

    The first is this thread, the others come from a pool and see this one's context variables.
    NumPy lets go of the interpreter lock inside every large operation, so they do run at once.
    f must not call thread_map in its turn.
    """
    items = list(items)
    if not items:
        return []
    first, *rest = items
    futures = [_pool().submit(contextvars.copy_context().run, f, item) for item in rest]
    return [contextvars.copy_context().run(f, first), *(future.result() for future in futures)]


@functools.cache
def _blas():
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread():
    """A context in which each matrix product stays on the thread that asked for it.

    The two kinds of threads must not mix: after a product on several threads, BLAS's workers keep
    their cores busy for a while, and slow down the products on our own threads.
    """
    return _blas().limit(limits=1, user_api="blas")


# ---- memory -------------------------------------------------------------------------------------

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # from glibc's malloc.h


@functools.cache
def keep_freed_memory() -> None:
    """Reuse freed arrays instead of giving them to the kernel (glibc only; once per process).

    By default glibc hands large freed arrays back, and the kernel zeroes fresh pages for the next
    ones: thousands of page faults in every training step. Called when training first starts, never
    at import. Settings from mallopt(3).
    """
    if not sys.platform.startswith("linux") or os.environ.get("TINYGPT_MALLOC") == "0":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return
    mallopt(M_MMAP_MAX, 0)  # no array gets pages of its own
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # the top of the heap stays ours
    mallopt(M_TOP_PAD, 1 << 26)
    mallopt(M_ARENA_MAX, 1)  # arrays freed by one thread serve the others


# ---- folders ------------------------------------------------------------------------------------


def data_folder() -> Path | None:
    """TINYGPT_DATA, the folder in which data files are looked for first, or None."""
    setting = os.environ.get("TINYGPT_DATA", "")
    return Path(setting).expanduser() if setting else None


def cache_folder() -> Path:
    """Where downloads are kept. Not created here."""
    setting = os.environ.get("TINYGPT_CACHE", "")
    if setting:
        return Path(setting).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tinygpt"
