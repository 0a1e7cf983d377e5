"""Arrays on the emulated GPU, and how kernels start on them."""

import contextlib
import ctypes
import threading

import numpy as np

from tinygpt.kernels import gemm, graph, launch

ONE_AT_A_TIME = threading.Lock()  # there is only one emulated GPU
GUARD = 1 << 16  # bytes before and behind an array that nobody may touch


class GPUArray(np.ndarray):
    """A NumPy array of a type of its own, so that twins take it; even a single number stays one.

    A new one holds NaN, so that an element which a kernel forgets is noticed.
    may_wait: whether Python may look at a number, for which it would have to wait for a GPU.
    recording: a Recording while there is one, see recording.py.
    """

    may_wait = True
    recording = None

    def __new__(cls, shape, dtype):
        y = super().__new__(cls, shape, dtype)
        fill_with_nan(y)
        if cls.recording is not None:
            cls.recording.new.append(y)
        return y

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if ufunc in PRODUCTS:
            self._not_recorded(ufunc)
        if out is not None:
            options["out"] = tuple(as_numpy(x) for x in out)

        def compute():
            y = getattr(ufunc, method)(*map(as_numpy, inputs), **options)
            return np.asarray(y).view(GPUArray) if out is None else out[0]

        return noted(compute, inputs, out)

    def __array_function__(self, function, types, args, options):
        if function in WAITING:
            self._wait(function.__name__)
        if function in PRODUCTS:
            self._not_recorded(function)
        if function in (np.eye, np.full, np.ones):
            raise TypeError(f"NumPy hands {function.__name__}() a device, which CuPy's refuses")

        def compute():
            y = super(GPUArray, self).__array_function__(function, types, args, options)
            if function in (np.empty, np.empty_like):
                return GPUArray(y.shape, y.dtype)
            return y.view(GPUArray) if isinstance(y, np.ndarray) else y

        return noted(compute, args, args if function is np.copyto else None)

    def __setitem__(self, key, value):
        noted(lambda: super(GPUArray, self).__setitem__(key, value), (key, value), (self,))

    def __getitem__(self, key):
        return noted(lambda: super(GPUArray, self).__getitem__(key), (self, key))

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array if isinstance(array, GPUArray) else array.view(GPUArray)

    def get(self):
        """As a NumPy array of the CPU, CuPy's way."""
        self._wait("get")
        return np.array(self, copy=True, subok=False)

    def _not_recorded(self, function):
        if self.recording is not None and not self.recording.inside:
            raise RuntimeError(f"CuPy refuses {function.__name__} while it records")

    def _wait(self, what):
        if not GPUArray.may_wait:
            raise RuntimeError(f"{what} waits for the GPU")


def fill_with_nan(x):
    as_numpy(x).reshape(-1).view(np.uint8)[:] = 0xFF


def as_numpy(x):
    return x.view(np.ndarray) if isinstance(x, GPUArray) else x


def noted(compute, inputs, out=None):
    """compute(), of which a recording takes note. out: the arrays that it writes into, if any."""
    recording = GPUArray.recording
    return compute() if recording is None else recording.note(compute, inputs, out)


def _noted(name):
    def method(self, *args, **options):
        return noted(lambda: getattr(super(GPUArray, self), name)(*args, **options), (self, *args))

    return method


for _name in ("argmax", "astype", "copy", "repeat", "reshape"):  # methods that call no ufunc
    setattr(GPUArray, _name, _noted(_name))


def _waiting(name):
    def method(self, *args, **options):
        self._wait(name)
        return getattr(super(GPUArray, self), name)(*args, **options)

    return method


for _name in ("item", "tolist", "__bool__", "__float__", "__int__", "__index__"):
    setattr(GPUArray, _name, _waiting(_name))

PRODUCTS = {np.matmul, np.vecdot, np.dot, np.inner, np.tensordot, np.einsum}  # by cuBLAS
# Functions of which the result's shape depends on numbers, or which give a number to Python.
WAITING = {np.nonzero, np.unique, np.argwhere, np.flatnonzero, np.array_equal, np.allclose}


@contextlib.contextmanager
def no_waiting():
    """Inside it, what would wait for a GPU is a RuntimeError."""
    GPUArray.may_wait = False
    try:
        yield
    finally:
        GPUArray.may_wait = True


def to_gpu(x, dtype=None):
    """A copy of an array of the CPU."""
    return np.array(x, dtype=dtype).view(GPUArray)


@contextlib.contextmanager
def emulated(find, order=0):
    """Inside it, kernels run on GPUArrays.

    find: program -> the library that build() made, and the name of the program in it. order: that
    in which threads run, see gpu.h.
    """

    def start(program, kernel, blocks, threads, arguments, shared):
        library, name = find(program)
        with ONE_AT_A_TIME:
            run(library, f"{name}__{kernel}", blocks, threads, arguments, shared, order)

    launch.LAUNCHERS[GPUArray] = lambda *a: noted(lambda: start(*a), (), a[4])
    gemm.GEMMS[GPUArray] = lambda *a: noted(lambda: product(*a), (), (a[0].out,))
    graph.RECORDERS[GPUArray] = record
    try:
        yield
    finally:
        del launch.LAUNCHERS[GPUArray], gemm.GEMMS[GPUArray], graph.RECORDERS[GPUArray]


def record(f):
    """What graph.recorded does on a GPU: f() without computing, and what computes it."""
    recording = GPUArray.recording = Recording()
    try:
        with no_waiting(), np.errstate(all="ignore"):
            result = f()
    finally:
        GPUArray.recording = None
    return result, recording.play


class Recording:
    """All that was asked of the GPU, which has done nothing of it yet, to be done again and again.

    As in a CUDA graph, arrays are those of the recording each time. They begin as NaN each time, so
    that nothing can be left in them from the time before.
    """

    def __init__(self):
        self.steps = []  # functions, and the new arrays to which their results go
        self.new = []  # all arrays that were made
        self.inside = False  # of a function that is noted as a whole

    def note(self, compute, inputs, out):
        if self.inside:
            return compute()
        arrays = [x for x in flat(inputs) if isinstance(x, np.ndarray)]
        if any(type(x) is np.ndarray and x.ndim for x in arrays):
            raise RuntimeError("a recording cannot copy an array of the CPU")
        if out is not None:  # it would write into what is to stay as it is
            self.steps.append((compute, None))
            return out[0]
        self.inside = True
        y = compute()
        self.inside = False
        if isinstance(y, GPUArray) and not any(np.may_share_memory(x, y) for x in arrays):
            self.steps.append((compute, y))
            self.new.append(y)
        return y

    def forget(self):
        for y in self.new:
            fill_with_nan(y)

    def play(self):
        self.forget()
        for compute, y in self.steps:
            result = compute()
            if y is not None:
                np.ndarray.__setitem__(y, ..., result)


def flat(inputs):
    """The inputs of a function, lists of them opened."""
    for x in inputs:
        yield from flat(x) if isinstance(x, list | tuple) else [x]


def product(g, beta, bias, alpha):
    """What cublasGemmEx computes, and cublasLtMatmul with a bias, from the addresses and steps that
    they are given: by columns."""
    first = columns(g.first, g.first_step, (g.m, g.k), g.transpose_first)
    second = columns(g.second, g.second_step, (g.k, g.n), g.transpose_second)
    out = columns(g.out, g.out_step, (g.m, g.n), False)
    y = first.astype("float32") @ second.astype("float32")
    if alpha is not None:
        y *= as_numpy(alpha)
    if bias is not None:
        assert bias.dtype == out.dtype  # and its numbers side by side, for it is only an address
        assert bias.flags.c_contiguous
        y += as_numpy(bias).astype("float32")[:, None]
    with np.errstate(over="ignore"):  # float16 has infinity for what is too large
        out[...] = (y if beta == 0 else y + beta * out.astype("float32")).astype(out.dtype)


def columns(x, step, shape, transposed):
    """The matrix of `shape` whose columns, or rows where it is transposed, begin `step` apart."""
    strides = (x.itemsize, step * x.itemsize)
    array = np.lib.stride_tricks.as_strided(np.asarray(x), (1, 1), strides)
    shape = shape[::-1] if transposed else shape
    array = np.lib.stride_tricks.as_strided(array, shape, strides)
    return array.T if transposed else array


def run(library, symbol, blocks, threads, arguments, shared, order):
    """Run a kernel. An array must not be touched outside of its elements: RuntimeError."""
    signature = getattr(library, f"signature__{symbol}")
    signature.restype = ctypes.c_char_p
    letters = signature().decode()
    if len(letters) != len(arguments):
        raise TypeError(f"{symbol} takes {len(letters)} arguments, not {len(arguments)}")

    guarded = {}
    slots = []
    for i, (letter, argument) in enumerate(zip(letters, arguments, strict=True)):
        if letter not in letters_of(argument):
            raise TypeError(f"argument {i} of {symbol} is {argument!r}, for a parameter {letter}")
        if isinstance(argument, np.ndarray):
            memory = memory_of(argument)
            if id(memory) not in guarded:
                guarded[id(memory)] = Guarded(memory, len(guarded))
            value = ctypes.c_void_p(guarded[id(memory)].address_of(argument))
        else:
            value = np.ctypeslib.as_ctypes_type(argument.dtype)(argument)
        slots.append(value)

    pointers = (ctypes.c_void_p * len(slots))(*[ctypes.addressof(slot) for slot in slots])
    function = getattr(library, symbol)
    function.restype = ctypes.c_char_p
    sizes = [(ctypes.c_uint * 3)(*(*size, 1, 1)[:3]) for size in (blocks, threads)]
    error = function(*sizes, pointers, shared, order)
    if error:
        raise RuntimeError(f"{symbol}: {error.decode()}")
    for copy in guarded.values():
        copy.give_back(symbol)


def letters_of(argument):
    """The letters of the parameters that an argument fits, as in gpu.h."""
    if isinstance(argument, GPUArray):
        return {4: "P", 2: "p"}.get(argument.itemsize, "L")
    if isinstance(argument, np.float32):
        return "f"
    if isinstance(argument, np.int32 | np.uint32):
        return "i"
    if isinstance(argument, np.uintp) and argument == 0:
        return "PpLl"
    return "l" if isinstance(argument, np.int64 | np.uint64) else ""


def memory_of(array):
    """The array that owns the numbers of which `array` may be a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


class Guarded:
    """A copy of an array's memory between two stretches of NaN, which must stay as they are.

    Each array has a NaN of its own, a signaling one, which any arithmetic changes: so it is noticed
    too where what was read outside is written back outside.
    """

    def __init__(self, memory, number):
        self.owner = memory
        self.first, end = np.lib.array_utils.byte_bounds(memory)
        buffer = (ctypes.c_ubyte * (end - self.first)).from_address(self.first)
        self.memory = np.ctypeslib.as_array(buffer)
        self.nan = np.uint16(0x7F81 + number)  # as bfloat16, and twice over as float32
        self.copy = np.full(self.memory.size // 2 + GUARD + 16, self.nan).view(np.uint8)
        self.start = GUARD + -(self.copy.ctypes.data + GUARD) % 16
        self.inside = slice(self.start, self.start + self.memory.size)
        self.before = self.memory.copy()
        self.copy[self.inside] = self.before

    def address_of(self, view):
        return self.copy.ctypes.data + self.start + view.ctypes.data - self.first

    def give_back(self, symbol):
        """Write what the kernel changed to the array, and nothing else: other threads may be at
        work on other parts of it."""
        changed = self.copy[self.inside] != self.before
        self.memory[changed] = self.copy[self.inside][changed]
        self.copy[self.inside] = np.full(self.memory.size // 2, self.nan).view(np.uint8)
        if (self.copy.view(np.uint16) != self.nan).any():
            raise RuntimeError(f"{symbol} wrote outside of an array")
