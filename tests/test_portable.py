"""Every op runs on arrays that can only do what CuPy's can, and gives what NumPy gives."""

import functools

import numpy as np
import pytest
from op_checks import assert_close, run
from restricted_array import FUNCTIONS, RestrictedArray, to_numpy, to_restricted

from tinygpt import Tensor
from tinygpt import functional as F
from tinygpt.cases import cases


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_op_stays_on_its_device(case):
    ys, dys, gradients = run(case.f, *case.arrays)

    f = case.f
    if isinstance(f, functools.partial):
        options = {name: to_restricted(option) for name, option in f.keywords.items()}
        f = functools.partial(f.func, **options)
    y, backward = f(*to_restricted(case.arrays))
    results = (
        *(y if isinstance(y, tuple) else (y,)),
        *backward(*to_restricted(dys))[: len(gradients)],
    )

    for result, expected in zip(results, (*ys, *gradients), strict=True):
        assert result is None or isinstance(result, RestrictedArray)
        assert_close(to_numpy(result), expected, 1e-14)


def test_tape_stays_on_its_device():
    def gradient(array_of):
        x = Tensor(array_of(np.array([[1.0, -2.0], [0.5, 3.0], [4.0, -1.0]])), requires_grad=True)
        first, _ = F.split(x, [1, 1], axis=1)
        y = (x * first + F.softmax(x)).mean()
        y.backward()
        y = (x @ x.T)[1].sum()
        y.backward(array_of(np.array(2.0)))
        return x.grad

    assert isinstance(gradient(RestrictedArray), RestrictedArray)
    assert_close(gradient(RestrictedArray).get(), gradient(np.array))


MISTAKES = {
    "a NumPy array": lambda x: x + np.ones(3),
    "a NumPy array first": lambda x: np.ones(3) * x,
    "a NumPy number": lambda x: x * np.float64(2),
    "a NumPy array of indices": lambda x: x[np.array([0, 1])],
    "a NumPy array assigned": lambda x: x.__setitem__(0, np.array(1.0)),
    "a NumPy array in place": lambda x: np.exp(np.ones(3), out=x),
    "a NumPy array for the result": lambda x: np.exp(x, out=np.ones(3)),
    "a mixed list": lambda x: np.concatenate([x, np.ones(3)]),
    "float": lambda x: float(x[0]),
    "int": lambda x: int(x[0]),
    "if": lambda x: 1 if x[0] > 0 else 2,
    "asarray": lambda x: np.asarray(x),
    "np.add.at": lambda x: np.add.at(x, RestrictedArray([0]), 1.0),
    "np.add.reduceat": lambda x: np.add.reduceat(x, [0, 1]),
    "np.add.reduce": lambda x: np.add.reduce(x),
    "np.multiply.outer": lambda x: np.multiply.outer(x, x),
    "np.vecdot": lambda x: np.vecdot(x, x),
    "np.apply_along_axis": lambda x: np.apply_along_axis(np.sum, 0, x),
    "matmul into a view": lambda x: np.matmul(
        x[:, None], x[None], out=RestrictedArray(np.ones((3, 3))).T
    ),
    "full without like": lambda x: x + np.full(3, 2.0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_noticed(mistake):
    with pytest.raises(TypeError):
        MISTAKES[mistake](RestrictedArray(np.array([1.0, 2.0, 3.0])))


def test_cupy_has_these_functions():
    cupy = pytest.importorskip("cupy", reason="compares with CuPy, which is not installed")
    assert [name for name in FUNCTIONS if not hasattr(cupy, name)] == []
