"""Matrix products on a GPU by cuBLAS: no operand is copied, sums are in float32."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backend import cupy
from .cublas_lt import product_with_bias
from .launch import contiguous, empty
from .precision import tf32

# From the headers of CUDA: cudaDataType, for float32, float16 and bfloat16 by dtype.char; then
# cublasComputeType_t, cublasGemmAlgo_t and cublasPointerMode_t.
TYPES = {"f": 0, "e": 2, "E": 14}
COMPUTE_32F, COMPUTE_32F_FAST_TF32, DEFAULT_ALGORITHM = 68, 77, -1
FACTORS_ON_CPU, FACTORS_ON_GPU = 0, 1
ZERO_AND_ONE = np.array([0, 1], "float32")


def product(a: Any, b: Any, dtype: Any, bias: Any = None, alpha: Any = None) -> Any:
    """alpha a @ b or a @ b + bias, in `dtype`.     a (M, K), b (K, N), either of them perhaps
    transposed, bias (N,) -> (M, N)."""
    return gemm(a, b, empty(a, (a.shape[0], b.shape[1]), dtype), bias=bias, alpha=alpha)


def gradient(a: Any, b: Any, dtype: Any, to_leaf: bool, alpha: Any = None) -> Any:
    """alpha a @ b in `dtype`; for a leaf, the function that adds it to an array while computing
    it."""
    if to_leaf:
        return functools.partial(gemm, a, b, beta=1.0, alpha=alpha)
    return product(a, b, dtype, alpha=alpha)


def gemm(a: Any, b: Any, out: Any, beta: float = 0.0, bias: Any = None, alpha: Any = None) -> Any:
    """out = alpha a @ b + beta out, or a @ b + bias.     a (M, K), b (K, N), out (M, N), bias (N,).

    Returns out. a and b share a dtype; out may be float32 where they have 16 bits, and adds up
    gradients with beta = 1. beta is 0 or 1; alpha is 1, or a float32 array () on the GPU.
    """
    assert bias is None or (beta == 0 and alpha is None)
    if bias is not None:
        bias = contiguous(bias.astype(out.dtype, copy=False))
    if a.size and b.size:
        GEMMS.get(type(out), _on_cublas)(gemm_arguments(a, b, out), beta, bias, alpha)
    elif beta == 0:  # nothing is added up, and cuBLAS refuses arrays without an address
        out[...] = 0 if bias is None else bias
    return out


class Gemm(NamedTuple):
    """The arguments of a product in the order of cublasGemmEx, which knows only columns.

    What it takes for the columns of a matrix are the rows of ours: it sees every matrix
    transposed. So out = a b is out^T = b^T a^T to it: b comes first, and M and N change places.
    """

    transpose_first: bool
    transpose_second: bool
    m: int
    n: int
    k: int
    first: Any
    first_step: int  # from one of its columns to the next, in numbers
    second: Any
    second_step: int
    out: Any
    out_step: int


def gemm_arguments(a: Any, b: Any, out: Any) -> Gemm:
    """How cuBLAS is to be told out = a b. An operand with gaps in both directions is copied."""
    (M, K), N = a.shape, b.shape[1]
    assert b.shape == (K, N)
    assert out.shape == (M, N)
    a, transpose_a, a_step = _operand(a)
    b, transpose_b, b_step = _operand(b)
    out_, transpose_out, out_step = _operand(out)
    assert out_ is out
    assert not transpose_out
    return Gemm(transpose_b, transpose_a, N, M, K, b, b_step, a, a_step, out, out_step)


def _operand(x: Any) -> tuple[Any, bool, int]:
    """x or a copy of it, whether it lies transposed, and how far its rows (columns) lie apart."""
    (rows, columns), flags = x.shape, x.flags
    if flags.c_contiguous:
        return x, False, columns
    if flags.f_contiguous:
        return x, True, rows
    down, right = (step // x.itemsize for step in x.strides)
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return x, False, max(down if rows > 1 else 1, columns)
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return x, True, max(right if columns > 1 else 1, rows)
    return _operand(contiguous(x))


# How products are computed on arrays of other types than CuPy's: the tests bring their own.
GEMMS: dict[type, Callable] = {}


# ---- cuBLAS, by ctypes: CuPy's own calls of it refuse to be part of a graph ----------------------

WORKSPACE = 32 << 20  # bytes that cuBLAS works in: what NVIDIA recommends for Hopper


@functools.cache
def _cuda() -> Any:
    return cupy().cuda  # asked for once, as it takes microseconds to see whether it works


@functools.cache
def _cublas() -> ctypes.CDLL:
    """The library, found as CuPy finds it, with the types of what we call."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    library = ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    pointer, number = ctypes.c_void_p, ctypes.c_int
    matrix = (pointer, number, number)  # where, of which type, how far apart its columns
    library.cublasCreate_v2.argtypes = (pointer,)
    library.cublasSetStream_v2.argtypes = (pointer, pointer)
    library.cublasSetWorkspace_v2.argtypes = (pointer, pointer, ctypes.c_size_t)
    library.cublasSetPointerMode_v2.argtypes = (pointer, number)
    library.cublasGemmEx.argtypes = (
        pointer, *[number] * 5, pointer, *matrix, *matrix, pointer, *matrix, number, number
    )  # fmt: skip
    return library


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"cuBLAS failed with status {status}")


def cublas_handle() -> ctypes.c_void_p:
    """What cuBLAS knows the current GPU and stream by."""
    cuda = _cuda()
    return _handle(cuda.runtime.getDevice(), cuda.get_current_stream().ptr)


@functools.cache
def _handle(device: int, stream: int) -> ctypes.c_void_p:
    """It has another, `factors_on_gpu`: to switch one to and fro would disturb other threads."""
    workspace = cupy().cuda.Memory(WORKSPACE)
    handles: list[Any] = [ctypes.c_void_p(), ctypes.c_void_p()]
    for handle, mode in zip(handles, (FACTORS_ON_CPU, FACTORS_ON_GPU), strict=True):
        _check(_cublas().cublasCreate_v2(ctypes.byref(handle)))
        _check(_cublas().cublasSetStream_v2(handle, stream))
        _check(_cublas().cublasSetWorkspace_v2(handle, workspace.ptr, WORKSPACE))
        _check(_cublas().cublasSetPointerMode_v2(handle, mode))
        handle.workspace = workspace  # as long as the handle
    handles[0].stream = stream
    handles[0].factors_on_gpu = handles[1]
    handles[0].zero_and_one = cupy().asarray(ZERO_AND_ONE)
    return handles[0]


def _on_cublas(g: Gemm, beta: float, bias: Any, alpha: Any) -> None:
    rounds = tf32() and g.first.dtype == np.float32
    compute = COMPUTE_32F_FAST_TF32 if rounds else COMPUTE_32F
    handle: Any = cublas_handle()
    if bias is not None and product_with_bias(g, bias, compute, TYPES, handle):
        return
    # cuBLAS wants to know where both factors are: on the CPU, or on the GPU.
    factors: tuple = ctypes.byref(ctypes.c_float(1)), ctypes.byref(ctypes.c_float(beta))
    if alpha is not None:
        factors = alpha.data.ptr, handle.zero_and_one[int(beta) :].data.ptr
        handle = handle.factors_on_gpu
    status = _cublas().cublasGemmEx(
        handle, g.transpose_first, g.transpose_second, g.m, g.n, g.k,
        factors[0],
        g.first.data.ptr, TYPES[g.first.dtype.char], g.first_step,
        g.second.data.ptr, TYPES[g.second.dtype.char], g.second_step,
        factors[1],
        g.out.data.ptr, TYPES[g.out.dtype.char], g.out_step,
        compute, DEFAULT_ALGORITHM,
    )  # fmt: skip
    _check(status)
    if bias is not None:
        np.add(g.out, bias, out=g.out)
