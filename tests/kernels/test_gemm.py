"""The product's arguments, against a BLAS that reads columns: that of emulation/arrays.py."""

import ctypes
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from emulation import GPUArray
from twin_checks import relative_error, stored_as

from tinygpt.backend import to_numpy
from tinygpt.kernels import cublas_lt
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


@pytest.mark.parametrize("sizes", [*SIZES, (70, 48, 64), (0, 4, 7), (5, 0, 7)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bias_is_added(device, sizes, dtype):
    """Also to a product of nothing; and a bias that lies apart, or is of another dtype."""
    M, K, N = sizes
    a, b = matrix(device, (M, K), False, dtype), matrix(device, (K, N), True, dtype)
    numbers = np.random.default_rng(0).standard_normal(2 * N)
    for bias in (numbers[:N].astype("float32"), numbers.astype(stored_as(dtype))[::2]):
        out = device.array(np.full((M, N), np.nan), stored_as(dtype))
        with device.running():
            whole = device.array(np.repeat(bias, 2))
            assert gemm(a, b, out, bias=whole[::2]) is out
        expected = to_numpy(a).astype("f8") @ to_numpy(b).astype("f8") + bias.astype("f8")
        assert relative_error(to_numpy(out), expected) < (1e-6 if dtype == "float32" else 1e-2)


def test_a_factor_on_the_gpu(device):
    a, b = matrix(device, (5, 4), True), matrix(device, (4, 7), False)
    for beta in (0.0, 1.0):
        out = device.array(np.full((5, 7), 3.0), "float32")
        with device.running():
            gemm(a, b, out, beta, alpha=device.array(np.array(-0.5), "float32"))
        expected = -0.5 * (to_numpy(a).astype("f8") @ to_numpy(b)) + beta * 3
        assert relative_error(to_numpy(out), expected) < 1e-6


def test_a_product_of_nothing_is_zero(device):
    a, b = matrix(device, (5, 0), False), matrix(device, (0, 7), False)
    for beta, expected in ((0.0, 0), (1.0, 3)):
        out = device.array(np.full((5, 7), 3.0), "float32")
        with device.running():
            gemm(a, b, out, beta)
        assert (to_numpy(out) == expected).all()


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

    zero_and_one = np.array([0, 1], "float32").view(Array)
    handle = SimpleNamespace(zero_and_one=zero_and_one, factors_on_gpu="another handle")
    monkeypatch.setattr(module, "_cublas", cuBLAS)
    monkeypatch.setattr(module, "cublas_handle", lambda: handle)
    a, b, out = (np.zeros(shape, "float32").view(Array) for shape in [(5, 4), (7, 4), (5, 7)])
    gemm(a, b.T, out, beta=1.0)
    (arguments,) = told
    assert arguments[:6] == (handle, 1, 0, 7, 5, 4)  # b first, transposed; N, M, K
    assert [arguments[i]._obj.value for i in (6, 13)] == [1, 1]
    assert [x.shape for x in arguments if isinstance(x, Array)] == [(4, 7), (5, 4), (5, 7)]
    assert [arguments[i] for i in (8, 9, 11, 12, 15, 16)] == [0, 4, 0, 4, 0, 7]
    assert arguments[-2:] == (module.COMPUTE_32F, module.DEFAULT_ALGORITHM)

    alpha = np.array([7], "float32").view(Array)
    for beta in (0.0, 1.0):
        gemm(a, b.T, out, beta, alpha=alpha)
        assert told[-1][0] == "another handle"
        assert [told[-1][i][0] for i in (6, 13)] == [7, beta]
    assert GPUArray not in module.GEMMS


class CublasLt:
    """Notes what it is told, and knows an algorithm or none."""

    def __init__(self, knows=True):
        self.told, self.knows = [], knows

    def __getattr__(self, name):
        def call(*arguments):
            self.told.append((name.removeprefix("cublasLt"), *map(plain_number, arguments)))
            if name.endswith("Heuristic") and self.knows:
                arguments[-1]._obj.value = 1
            return 0

        return call


def plain_number(argument):
    """What stands behind ctypes."""
    argument = getattr(argument, "_obj", argument)
    return getattr(argument, "value", argument)


def with_bias(monkeypatch, library):
    """out = a b^T + bias, as cuBLASLt is told it."""
    monkeypatch.setattr(cublas_lt, "_library", lambda: library)
    a, b, out, bias = (
        np.zeros(shape, stored_as("bfloat16")) for shape in [(5, 4), (7, 4), (5, 7), 7]
    )
    handle = ctypes.c_void_p(8)
    handle.stream, handle.workspace = 12, SimpleNamespace(ptr=1 << 20, size=99)
    g = gemm_arguments(a, b.T, out)
    cublas_lt._plan.cache_clear()
    told = module.COMPUTE_32F, module.TYPES, handle
    return g, bias, cublas_lt.product_with_bias(g, bias, *told)


def test_what_cublas_lt_is_told(monkeypatch):
    library = CublasLt()
    g, bias, done = with_bias(monkeypatch, library)
    assert done
    told = dict.fromkeys(name for name, *_ in library.told)
    assert list(told) == [
        "MatmulDescCreate", "MatmulDescSetAttribute", "MatrixLayoutCreate",
        "MatmulPreferenceCreate", "MatmulPreferenceSetAttribute", "MatmulAlgoGetHeuristic",
        "Matmul",
    ]  # fmt: skip
    layouts = [rest[1:] for name, *rest in library.told if name == "MatrixLayoutCreate"]
    assert layouts == [[14, 4, 7, 4], [14, 4, 5, 4], [14, 7, 5, 7]]  # type, rows, columns, step
    attributes = [rest[1:3] for name, *rest in library.told if name == "MatmulDescSetAttribute"]
    assert attributes == [[3, 1], [4, 0], [7, 4], [8, bias.ctypes.data]]  # b transposed, a not
    wishes = [rest[1:] for name, *rest in library.told if name == "MatmulPreferenceSetAttribute"]
    assert [(which, size) for which, _, size in wishes] == [(1, 8), *((n, 4) for n in (5, 6, 7, 8))]
    for (_, bytes_, _), x in zip(wishes[1:], (g.first, g.second, g.out, g.out), strict=True):
        assert x.ctypes.data % bytes_ == 0
        assert bytes_ == 256 or x.ctypes.data % (2 * bytes_)
    _, _, _, *rest = library.told[-1]
    assert [rest[i] for i in (0, 1, 3, 5, 6, 8)] == [
        1, g.first.ctypes.data, g.second.ctypes.data, 0, g.out.ctypes.data, g.out.ctypes.data
    ]  # fmt: skip
    assert rest[-3:] == [1 << 20, 99, 12]


def test_cublas_lt_may_know_no_way(monkeypatch):
    library = CublasLt(knows=False)
    assert with_bias(monkeypatch, library)[-1] is False
    assert "Matmul" not in {name for name, *_ in library.told}


def installed(load):
    """The library of NVIDIA's that load() finds."""
    reason = "asks cuBLAS, which is not installed: cuda-pathfinder and nvidia-cublas"
    pathfinder = pytest.importorskip("cuda.pathfinder", reason=reason)
    try:
        return load()
    except pathfinder.DynamicLibNotFoundError:
        pytest.skip(reason)


def test_cublas_takes_what_it_is_told():
    """The library itself, which needs no GPU to see that it has been given none."""
    library = installed(module._cublas)
    one, nothing, not_initialized = ctypes.byref(ctypes.c_float(1)), None, 1
    assert library.cublasSetStream_v2(nothing, 0) == not_initialized
    assert library.cublasSetWorkspace_v2(nothing, 0, module.WORKSPACE) == not_initialized
    status = library.cublasGemmEx(
        nothing, True, False, 2, 3, 4, one, 2**40, 14, 4, 2**40, 14, 4, one, 2**40, 0, 2, 68, -1
    )
    assert status == not_initialized
    with pytest.raises(RuntimeError, match="status 1"):
        module._check(status)


def test_cublas_lt_takes_what_it_is_told(monkeypatch):
    """The library itself: what is set can be read again, and only a GPU is missing."""
    library, kept = installed(cublas_lt._library), []

    class Library:
        def __getattr__(self, name):
            def call(*arguments):
                kept.append((name, arguments))
                if name.endswith("Heuristic"):
                    arguments = (None, *arguments[1:])
                return getattr(library, name)(*arguments)

            return call

    with pytest.raises(RuntimeError, match="status 1"):  # not initialized
        with_bias(monkeypatch, Library())
    for name, arguments in kept:
        if name.endswith("SetAttribute"):
            read, size = type(arguments[2]._obj)(), ctypes.c_size_t()
            get = getattr(library, name.replace("Set", "Get"))
            status = get(*arguments[:2], ctypes.byref(read), arguments[3], ctypes.byref(size))
            assert (status, read.value) == (0, arguments[2]._obj.value)
            assert size.value == arguments[3].value
