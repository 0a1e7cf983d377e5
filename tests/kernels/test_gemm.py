"""The product's arguments, against a BLAS that reads columns: that of emulation/arrays.py."""

import ctypes
import itertools

import numpy as np
import pytest
from emulation import GPUArray
from twin_checks import relative_error, stored_as

from tinygpt.backend import to_numpy
from tinygpt.kernels import gemm as module
from tinygpt.kernels.gemm import gemm, gemm_arguments


def matrix(device, shape, transposed, dtype="float32"):
    numbers = np.random.default_rng(sum(shape)).standard_normal(shape)
    if transposed:
        return device.array(numbers.T.copy(), stored_as(dtype)).T
    return device.array(numbers, stored_as(dtype))


SIZES = [(5, 4, 7), (1, 4, 7), (5, 1, 7), (5, 4, 1), (1, 1, 1)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_any_mix_of_transposes(device, sizes, beta):
    M, K, N = sizes
    for across_a, across_b in itertools.product([False, True], repeat=2):
        a, b = matrix(device, (M, K), across_a), matrix(device, (K, N), across_b)
        out = device.array(np.full((M, N), 3.0), "float32")
        with device.running():
            assert gemm(a, b, out, beta) is out
        expected = to_numpy(a).astype("f8") @ to_numpy(b) + beta * 3
        assert relative_error(to_numpy(out), expected) < 1e-6
        g = gemm_arguments(a, b, out)
        assert g.first is b  # neither was copied
        assert g.second is a


def test_a_slice_of_a_packed_array_is_not_copied(device):
    packed = matrix(device, (6, 12), False)
    middle, w = packed[:, 4:8], matrix(device, (4, 3), True)
    out = device.array(np.zeros((6, 3)), "float32")
    with device.running():
        gemm(middle, w, out)
    assert gemm_arguments(middle, w, out).second is middle
    assert relative_error(to_numpy(out), to_numpy(middle).astype("f8") @ to_numpy(w)) < 1e-6


def test_an_operand_with_gaps_both_ways_is_copied(device):
    gaps = matrix(device, (8, 6), False)[::2, ::2]
    b, out = matrix(device, (3, 5), False), device.array(np.zeros((4, 5)), "float32")
    with device.running():
        gemm(gaps, b, out)
    assert relative_error(to_numpy(out), to_numpy(gaps).astype("f8") @ to_numpy(b)) < 1e-6


def test_gradients_of_bfloat16_add_up_in_float32(device):
    a, b = (matrix(device, shape, False, "bfloat16") for shape in [(300, 5), (300, 7)])
    out = device.array(np.full((5, 7), 1000.0), "float32")
    with device.running():
        gemm(a.T, b, out, beta=1.0)
    added = to_numpy(out).astype("f8") - 1000
    assert relative_error(added, to_numpy(a).T.astype("f8") @ to_numpy(b).astype("f8")) < 1e-4


def test_what_cublas_is_told(monkeypatch):
    told = []

    class Address:
        def __init__(self, array):
            self.ptr = array

    class Array(np.ndarray):
        data = property(Address)

    class cuBLAS:  # noqa: N801
        def cublasGemmEx(*arguments):  # noqa: N802, N805
            told.append(arguments[1:])
            return 0

    monkeypatch.setattr(module, "_cublas", cuBLAS)
    monkeypatch.setattr(module, "cublas_handle", lambda: "handle")
    a, b, out = (np.zeros(shape, "float32").view(Array) for shape in [(5, 4), (7, 4), (5, 7)])
    gemm(a, b.T, out, beta=1.0)
    (arguments,) = told
    assert arguments[:6] == ("handle", 1, 0, 7, 5, 4)  # b first, transposed; N, M, K
    assert [x.shape for x in arguments if isinstance(x, Array)] == [(4, 7), (5, 4), (5, 7)]
    assert [arguments[i] for i in (8, 9, 11, 12, 15, 16)] == [0, 4, 0, 4, 0, 7]
    assert arguments[-2:] == (module.COMPUTE_32F, module.DEFAULT_ALGORITHM)
    assert GPUArray not in module.GEMMS


def test_cublas_takes_what_it_is_told():
    """The library itself, which needs no GPU to see that it has been given none."""
    reason = "asks cuBLAS, which is not installed: cuda-pathfinder and nvidia-cublas"
    pathfinder = pytest.importorskip("cuda.pathfinder", reason=reason)
    try:
        library = module._cublas()
    except pathfinder.DynamicLibNotFoundError:
        pytest.skip(reason)
    one, nothing, not_initialized = ctypes.byref(ctypes.c_float(1)), None, 1
    assert library.cublasSetStream_v2(nothing, 0) == not_initialized
    assert library.cublasSetWorkspace_v2(nothing, 0, module.WORKSPACE) == not_initialized
    status = library.cublasGemmEx(
        nothing, True, False, 2, 3, 4, one, 2**40, 14, 4, 2**40, 14, 4, one, 2**40, 0, 2, 68, -1
    )
    assert status == not_initialized
    with pytest.raises(RuntimeError, match="status 1"):
        module._check(status)
