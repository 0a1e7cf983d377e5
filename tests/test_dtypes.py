"""An op keeps the dtype it was given: float32 never becomes float64, nor the other way round."""

import numpy as np
import pytest
from op_checks import check_dtypes

from tinygpt import Tensor, apply, ops
from tinygpt import functional as F
from tinygpt.cases import cases

both = pytest.mark.parametrize("dtype", ["float32", "float64"])


@both
@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases()])
def test_results_and_gradients(case, dtype):
    check_dtypes(case.f, *case.arrays, dtype=dtype)


OF_ONE_NUMBER = [
    ops.negative,
    ops.exp,
    ops.log,
    ops.tanh,
    ops.sigmoid,
    ops.relu,
    ops.relu2,
    ops.silu,
    ops.gelu,
    ops.gelu_tanh,
    ops.sum,
    ops.mean,
    ops.max,
]


@both
@pytest.mark.parametrize("op", OF_ONE_NUMBER)
def test_a_single_number(op, dtype):
    check_dtypes(op, np.array(0.5), dtype=dtype)
    check_dtypes(op, np.float64(0.5), dtype=dtype)


BEFORE = [
    lambda x: 2 + x,
    lambda x: 2.5 - x,
    lambda x: 2 * x,
    lambda x: 2.5 / x,
    lambda x: 2.5**x,
]
AFTER = [
    lambda x: x + 2,
    lambda x: x - 2.5,
    lambda x: x * 2,
    lambda x: x / 2.5,
    lambda x: x**2,
    lambda x: x**-0.5,
    lambda x: F.where(x.data > 1, x, 0.0),
]


@pytest.mark.parametrize("f", BEFORE + AFTER)
def test_python_numbers_take_the_dtype_of_the_array(f):
    arrived = []

    def spy(x):  # an op that shows what dy comes back to it
        def backward(dy):
            arrived.append(dy.dtype)
            return (dy,)

        return x, backward

    x = Tensor(np.array([0.5, 1.5], "float32"), requires_grad=True)
    y = f(apply(spy, x))
    y.sum().backward()
    assert y.dtype == "float32"
    assert arrived == ["float32"]


@both
@pytest.mark.parametrize(
    "f",
    [
        lambda x: (x.sum() * x.mean()).exp() / x.max(),
        lambda x: F.cross_entropy(x, np.array([1, -1])) * 2,
        lambda x: ((x @ x.T).mean() + 1) ** 0.5,
    ],
)
def test_a_loss_of_single_numbers(f, dtype):
    x = Tensor(np.array([[0.5, 1.5], [1.0, 2.0]], dtype), requires_grad=True)
    y = f(x)
    y.backward()
    assert y.dtype == dtype
    assert x.grad.dtype == dtype
