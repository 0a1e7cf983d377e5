"""Starting a kernel: its file, compiled for the type of its arrays, and then called."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import cupy

FOLDER = Path(__file__).parent / "cuda"
# What kernels can store, float32, bfloat16 and float16, and its name in C; by dtype.char, because
# dtype.name takes two microseconds.
SCALARS = {"f": "float", "E": "bf16", "e": "f16"}


@dataclass(frozen=True)
class Program:
    """A file of kernels, compiled for one type of stored numbers and some constants."""

    file: str
    scalar: str
    constants: tuple[tuple[str, int | str], ...] = ()

    def source(self, folder: Path = FOLDER) -> str:
        """What the compiler gets: constants, then the file with what it includes in place."""
        defines = {"scalar": self.scalar, "result": self.scalar, **dict(self.constants)}
        lines = [f"#define {name} {value}\n" for name, value in defines.items()]
        return "".join(lines) + _flattened(folder / self.file, set())


def _flattened(path: Path, seen: set[str]) -> str:
    """The text of a file, each `#include "x"` replaced by the file x the first time it is met."""

    def include(match):
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _flattened(path.parent / name, seen)

    return re.sub(r'#include "(.+)"\n', include, path.read_text(encoding="utf-8"))


def launch(
    file: str,
    kernel: str,
    like: Any,
    blocks: tuple[int, ...],
    threads: tuple[int, ...],
    arguments: tuple,
    shared: int = 0,
    result: Any = None,
    **constants: int | str,
) -> None:
    """Run a kernel of `file`, compiled for the dtype of `like`, with the arrays and numbers given.

    result: a dtype, where it is another one than that of `like`.

    Python's ints arrive as int and floats as float; other sizes are asked for by NumPy's types, and
    None is a null pointer. shared: bytes of dynamic shared memory. No blocks: nothing happens.
    """
    if 0 in blocks:  # of an array without numbers; CUDA would call this an error
        return
    if result is not None and result != like.dtype:
        constants["result"] = SCALARS[result.char]
    program = _program(file, like.dtype.char, **constants)
    arguments = tuple([IN_C[type(x)](x) if type(x) in IN_C else x for x in arguments])
    LAUNCHERS.get(type(like), _on_cupy)(program, kernel, blocks, threads, arguments, shared)


# np.int32 is an OverflowError where an int does not fit.
IN_C: dict[type, Callable] = {int: np.int32, float: np.float32, type(None): lambda _: np.uintp(0)}


@functools.cache
def _program(file: str, char: str, **constants: int | str) -> Program:
    return Program(file, SCALARS[char], tuple(sorted(constants.items())))


def has_kernels(x: Any) -> bool:
    """Whether x is an array whose type our kernels can run on."""
    return type(x) in LAUNCHERS or type(x).__module__.partition(".")[0] == "cupy"


# How kernels start on arrays of other types than CuPy's: the tests bring an emulator.
LAUNCHERS: dict[type, Callable] = {}


def _on_cupy(program, kernel, blocks, threads, arguments, shared) -> None:
    _compiled(program, kernel, shared)(blocks, threads, arguments, shared_mem=shared)


@functools.cache
def _compiled(program: Program, kernel: str, shared: int) -> Any:
    function = _module(program).get_function(kernel)
    if shared > 32 << 10:  # above 48 KB, with what a kernel has by itself, it has to be asked for
        most = function.max_dynamic_shared_size_bytes  # others may have asked for more
        function.max_dynamic_shared_size_bytes = max(most, shared)
    return function


@functools.cache
def _module(program: Program) -> Any:
    capability = int(cupy().cuda.Device().compute_capability)
    if program.scalar == "bf16" and capability < AMPERE:
        raise RuntimeError(
            "bfloat16 needs a GPU of compute capability 8.0 or newer, and this one has "
            f'{capability / 10}; try precision "float16"'
        )
    return cupy().RawModule(code=program.source(), options=("-std=c++17",))


AMPERE = 80  # the first to compute with bfloat16, and to copy to shared memory in the background


def shared_memory(like: Any) -> int:
    """How many bytes a block can have on the GPU of an array; 0 where it is older than Ampere, and
    cannot run what needs much of it."""
    return MOST_SHARED if type(like) in LAUNCHERS else _shared_memory(like.device.id)


MOST_SHARED = 227 << 10  # of any GPU so far


@functools.cache
def _shared_memory(number: int) -> int:
    cuda = cupy().cuda
    if int(cuda.Device(number).compute_capability) < AMPERE:
        return 0
    most = cuda.runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin
    return cuda.runtime.deviceGetAttribute(most, number)


# ---- what twins need before they launch ---------------------------------------------------------


def stored(*arrays: Any) -> bool:
    """Whether kernels can store these arrays: all in one dtype, of those in SCALARS."""
    chars = {a.dtype.char for a in arrays if a is not None}
    return len(chars) == 1 and chars.pop() in SCALARS


def empty(like: Any, shape: tuple[int, ...] | None = None, dtype: Any = None) -> Any:
    """np.empty_like(like), perhaps of another shape or dtype, with its numbers side by side.

    CuPy takes 8 us for np.empty(..., like=like), most of it to find its own function.
    """
    shape = like.shape if shape is None else shape
    return type(like)(shape, like.dtype if dtype is None else dtype)


def contiguous(x: Any) -> Any:
    """x with its numbers side by side, beginning where kernels may read several at once."""
    return x if x.flags.c_contiguous and aligned(x) else x.copy(order="C")


def aligned(x: Any) -> bool:
    """Whether the first number of x lies at a multiple of 16 bytes."""
    return address(x) % 16 == 0


def address(x: Any) -> int:
    """Where the first number of x lies in memory."""
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def ceil(n: int, size: int) -> int:
    """How many pieces of `size` cover n."""
    return -(-n // size)
