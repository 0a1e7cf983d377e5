"""A product and its bias in one launch, by cuBLASLt: cuBLAS itself cannot add one."""

from __future__ import annotations

import ctypes
import functools
import threading
from typing import TYPE_CHECKING, Any

from .launch import address

if TYPE_CHECKING:
    from .gemm import Gemm

# From cublasLt.h: cublasLtMatmulDescAttributes_t, cublasLtEpilogue_t and
# cublasLtMatmulPreferenceAttributes_t; NOT_SUPPORTED is a cublasStatus_t.
TRANSPOSE_FIRST, TRANSPOSE_SECOND, EPILOGUE, BIAS_POINTER = 3, 4, 7, 8
ADD_BIAS = 4
MOST_WORKSPACE, ALIGNMENTS = 1, (5, 6, 7, 8)  # of first, of second, of what is added to, of out
NOT_SUPPORTED = 15
BEST_ALIGNMENT = 256  # bytes, which is what cuBLASLt counts on where it is told nothing


class Algorithm(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: how a product will be computed."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("status", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


def product_with_bias(g: Gemm, bias: Any, compute: int, types: dict, handle: Any) -> bool:
    """out = first second + bias, which has a number for each of out's m rows and out's dtype.

    compute: a cublasComputeType_t. types: cudaDataType by dtype.char. handle: of cuBLAS, with its
    stream and workspace. False where cuBLASLt knows no way; then nothing has happened.
    """
    first, second, out = map(address, (g.first, g.second, g.out))
    plan = _plan(
        g[:5], (g.first_step, g.second_step, g.out_step),
        (types[g.first.dtype.char], types[g.out.dtype.char]),
        tuple(min(at & -at, BEST_ALIGNMENT) for at in (first, second, out)),
        compute, handle.value, handle.workspace.size,
    )  # fmt: skip
    if plan is None:
        return False
    product, (of_first, of_second, of_out), algorithm = plan
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    with LOCK:  # the plan is shared, and knows one bias at a time
        _set("MatmulDesc", product, BIAS_POINTER, ctypes.c_void_p(address(bias)))
        _call(
            "Matmul", handle, product, ctypes.byref(one), first, of_first, second, of_second,
            ctypes.byref(zero), out, of_out, out, of_out, ctypes.byref(algorithm),
            handle.workspace.ptr, handle.workspace.size, handle.stream,
        )  # fmt: skip
    return True


LOCK = threading.Lock()


@functools.cache
def _plan(sizes, steps, types, alignments, compute, handle, workspace) -> Any:
    """What cuBLASLt wants to know of a product, and the algorithm that it chooses; made once for
    products of the same sizes."""
    transpose_first, transpose_second, m, n, k = sizes
    of_inputs, of_out = types
    product = _create("MatmulDesc", compute, 0)  # factors, such as one and zero, are float32
    _set("MatmulDesc", product, TRANSPOSE_FIRST, ctypes.c_int32(transpose_first))
    _set("MatmulDesc", product, TRANSPOSE_SECOND, ctypes.c_int32(transpose_second))
    _set("MatmulDesc", product, EPILOGUE, ctypes.c_int32(ADD_BIAS))
    shapes = (k, m) if transpose_first else (m, k), (n, k) if transpose_second else (k, n), (m, n)
    layouts = [
        _create("MatrixLayout", type_, *map(ctypes.c_uint64, shape), ctypes.c_int64(step))
        for type_, shape, step in zip((of_inputs, of_inputs, of_out), shapes, steps, strict=True)
    ]

    wishes = _create("MatmulPreference")
    _set("MatmulPreference", wishes, MOST_WORKSPACE, ctypes.c_size_t(workspace))
    for which, size in zip(ALIGNMENTS, (*alignments, alignments[-1]), strict=True):
        _set("MatmulPreference", wishes, which, ctypes.c_uint32(size))
    first, second, out = layouts
    algorithm, found = Algorithm(), ctypes.c_int(0)
    status = _library().cublasLtMatmulAlgoGetHeuristic(
        ctypes.c_void_p(handle), product, first, second, out, out, wishes, 1,
        ctypes.byref(algorithm), ctypes.byref(found),
    )  # fmt: skip
    if status == NOT_SUPPORTED or not (status or found.value):
        return None
    _check(status)
    return product, layouts, algorithm


@functools.cache
def _library() -> ctypes.CDLL:
    from cuda.pathfinder import load_nvidia_dynamic_lib

    library = ctypes.CDLL(load_nvidia_dynamic_lib("cublasLt").abs_path)
    pointer = ctypes.c_void_p
    library.cublasLtMatmul.argtypes = (*[pointer] * 14, ctypes.c_size_t, pointer)
    return library


def _call(name: str, *arguments: Any) -> None:
    _check(getattr(_library(), f"cublasLt{name}")(*arguments))


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLASLt failed with status {status}")


def _create(what: str, *arguments: Any) -> ctypes.c_void_p:
    made = ctypes.c_void_p()
    _call(f"{what}Create", ctypes.byref(made), *arguments)
    return made


def _set(what: str, of: ctypes.c_void_p, attribute: int, value: Any) -> None:
    size = ctypes.c_size_t(ctypes.sizeof(value))
    _call(f"{what}SetAttribute", of, attribute, ctypes.byref(value), size)
