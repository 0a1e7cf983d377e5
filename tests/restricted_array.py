"""An array that can do only what CuPy's can: a slip shows on a machine without a GPU."""

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

# Functions that CuPy has too, with the same arguments. Add to them what CuPy's documentation lists,
# but for eye, full and ones: NumPy hands them a device, which CuPy's refuse.
FUNCTIONS = [
    "arange", "asarray", "bincount", "broadcast_to", "clip", "concatenate", "cumsum", "einsum",
    "empty", "empty_like", "expand_dims", "full_like", "identity", "max", "mean", "min",
    "moveaxis", "ndim", "ones_like", "prod", "repeat", "reshape", "shape", "size", "sort",
    "squeeze", "stack", "sum", "swapaxes", "take_along_axis", "transpose", "tri", "tril",
    "triu", "unique", "where", "zeros", "zeros_like",
]  # fmt: skip
ALLOWED = {getattr(np, name) for name in FUNCTIONS}


class RestrictedArray(NDArrayOperatorsMixin):
    """Arithmetic takes arrays of this kind and Python numbers; .get() gives the NumPy array.

    may_wait: whether Python may look at a number, which CuPy allows, and ops must not do.
    """

    may_wait = False

    def __init__(self, array):
        self._array = np.asarray(array)

    def get(self):
        return self._array

    shape = property(lambda self: self._array.shape)
    dtype = property(lambda self: self._array.dtype)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    T = property(lambda self: RestrictedArray(self._array.T))

    def __len__(self):
        return len(self._array)

    def __getitem__(self, key):
        return RestrictedArray(self._array[_to_host(key)])

    def __setitem__(self, key, value):
        self._array[_to_host(key)] = _to_host(value)

    def item(self):
        # A GPU's number has to be waited for and copied before Python can look at it.
        if not self.may_wait:
            raise TypeError("an op waits for the GPU here")
        return self._array.item()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.item())

    def __iter__(self):
        return iter([self[i] for i in range(len(self))])

    def __array__(self, *args, **options):
        raise TypeError("CuPy's arrays are not made NumPy's without being told to")

    __index__ = __array__

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        if method != "__call__" or ufunc is np.vecdot or set(options) - {"dtype", "casting"}:
            raise TypeError(f"CuPy has no np.{ufunc.__name__}, {method}, {list(options)}")
        if not all(isinstance(array, RestrictedArray) for array in out):
            raise TypeError(f"np.{ufunc.__name__}(out=...) wants an array of the same kind")
        if ufunc is np.matmul and not all(o._array.flags.c_contiguous for o in out):
            raise TypeError("CuPy's matmul(out=...) wants a contiguous result")
        if out:
            options["out"] = tuple(o._array for o in out)
        y = getattr(ufunc, method)(*[_to_host(x) for x in inputs], **options)
        return out[0] if out else RestrictedArray(y)

    def __array_function__(self, function, types, args, options):
        if function not in ALLOWED:
            raise TypeError(f"np.{function.__name__} is not among the functions known from CuPy")
        if function is np.asarray:  # the way from the host to the device; NumPy's are welcome
            args = [x._array if isinstance(x, RestrictedArray) else x for x in args]
        else:
            args = _to_host(args)
            options = {name: _to_host(value) for name, value in options.items()}
        return _to_restricted(function(*args, **options))


def _method(name):
    def method(self, *args, **options):
        options = {key: _to_host(value) for key, value in options.items()}
        return RestrictedArray(getattr(self._array, name)(*_to_host(args), **options))

    return method


METHODS = [
    "all", "any", "argmax", "astype", "copy", "max", "mean", "min", "repeat", "reshape", "squeeze",
    "sum", "swapaxes", "transpose",
]  # fmt: skip
for _name in METHODS:
    setattr(RestrictedArray, _name, _method(_name))


def _to_host(x):
    """What is inside, for NumPy to compute with. A NumPy array or number here is a mistake."""
    if isinstance(x, RestrictedArray):
        return x._array
    if isinstance(x, tuple | list):
        return type(x)(_to_host(part) for part in x)
    if isinstance(x, np.ndarray | np.generic):
        raise TypeError(f"{type(x).__name__} {x} among arrays of the GPU")
    return x


def _to_restricted(y):
    if isinstance(y, tuple | list) and any(isinstance(part, np.ndarray) for part in y):
        return tuple(_to_restricted(part) for part in y)
    return RestrictedArray(y) if isinstance(y, np.ndarray | np.generic) else y


def to_restricted(x):
    """NumPy arrays, also inside tuples, as restricted ones; the rest as it is."""
    if isinstance(x, tuple):
        return tuple(map(to_restricted, x))
    return RestrictedArray(x.copy()) if isinstance(x, np.ndarray) else x


def to_numpy(x):
    return x.get() if isinstance(x, RestrictedArray) else x
