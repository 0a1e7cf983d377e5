"""The gradient check itself: it passes what is right, names what is wrong, and is not fooled."""

import functools
import inspect

import numpy as np
import pytest

from tinygpt import GradientError, Tensor, gradcheck, ops, vjp
from tinygpt import functional as F
from tinygpt.cases import Draw
from tinygpt.gradcheck import EACH_ENTRY

d = Draw(0)
SMALL, LARGE = d(3, 4), d(20, 30)


def wrong(change, x=SMALL):
    """An op y = x^2 with a backward that `change` has spoiled."""

    def square(x):
        def backward(dy):
            return (change(2 * x * dy),)

        return x * x, backward

    return square


# ---- what it takes ------------------------------------------------------------------------------


def test_returns_the_worst_relative_error():
    error = gradcheck(ops.matmul, d(3, 5), d(5, 2))
    assert 0 < error < 1e-8
    slightly_wrong = wrong(lambda g: g * 1.001)
    assert gradcheck(slightly_wrong, SMALL, rtol=1) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize(
    "f",
    [
        ops.softmax,
        functools.partial(ops.softmax, axis=0),
        functools.partial(functools.partial(ops.sum, keepdims=True), axis=1),
        lambda x: ops.tanh(x),
        lambda x: x.exp() * x,
        lambda x: x * x,  # works on arrays too
        lambda x: 2.0 * (F.softmax(x, axis=0) ** 2).sum(),
        vjp(lambda x: (x @ x.T).mean()),
    ],
    ids=["op", "partial", "partial of partial", "lambda", "Tensors", "either", "number", "vjp"],
)
def test_ops_partials_and_functions_of_tensors(f):
    assert gradcheck(f, SMALL) < 1e-8


def test_float32_is_checked_in_float64():
    assert gradcheck(ops.gelu, SMALL.astype("float32")) < 1e-8


def test_arguments_that_are_not_floats_are_passed_on():
    assert gradcheck(ops.embedding, np.array([[0, 2], [2, 2]]), SMALL) < 1e-8
    assert gradcheck(lambda ids, w: F.embedding(ids, w).sum(axis=0), np.array([1, 1]), SMALL) < 1e-8


def test_several_results():
    assert gradcheck(functools.partial(ops.split, sizes=[1, 3]), SMALL) < 1e-8


def test_a_network():
    def network(tokens, table, w, b, gain):
        x = F.embedding(tokens, table)
        x = x + F.gelu_tanh(F.linear(F.rms_norm(x, gain), w, b))
        return F.linear_cross_entropy(x, table, tokens)

    arrays = d.ids(7, 2, 5), d(7, 3), d(3, 3), d(3), d(3)
    assert gradcheck(network, *arrays) < 1e-7


def test_arguments_are_left_as_they_were():
    x = SMALL.astype("float32")
    before = x.copy()
    gradcheck(ops.exp, x)
    np.testing.assert_array_equal(x, before, strict=True)


def test_the_same_rng_gives_the_same_answer():
    assert gradcheck(ops.exp, LARGE, rng=3) == gradcheck(ops.exp, LARGE, rng=3)
    generator = np.random.default_rng(3)
    assert gradcheck(ops.exp, LARGE, rng=generator) == gradcheck(ops.exp, LARGE, rng=3)


# ---- what it refuses ----------------------------------------------------------------------------


def test_the_error_names_function_argument_and_both_numbers():
    def subtract(left, right):
        def backward(dy):
            return dy, dy

        return left - right, backward

    with pytest.raises(GradientError, match="subtract: gradient of right is wrong") as caught:
        gradcheck(subtract, np.array(2.0), np.array(3.0))
    dy = np.random.default_rng(0).standard_normal()
    assert f"backward says {dy:.8g}"[:20] in str(caught.value)
    assert f"finite differences say {-dy:.8g}"[:29] in str(caught.value)
    assert issubclass(GradientError, AssertionError)


def test_arguments_without_a_name_get_a_number():
    def concatenate(*arrays):
        y, backward = ops.concatenate(*arrays)
        return y, lambda dy: [2 * g for g in backward(dy)]

    with pytest.raises(GradientError, match="concatenate: gradient of argument 0 is wrong"):
        gradcheck(concatenate, SMALL, SMALL)


SPOILED = {
    "a factor": lambda g: 1.001 * g,
    "a sign": lambda g: -g,
    "one entry": lambda g: g + 1e-3 * np.where(np.arange(g.size) == 5, 1, 0).reshape(g.shape),
    "nan": lambda g: g * np.where(np.arange(g.size) == 5, np.nan, 1).reshape(g.shape),
    "missing": lambda g: None,
    "flat": lambda g: g.reshape(-1),
    "one too few": lambda g: g[1:],
    "all zero": lambda g: 0 * g,
}


@pytest.mark.parametrize("x", [SMALL, LARGE], ids=["entry by entry", "along directions"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_wrong_gradients(spoiled, x):
    with pytest.raises(GradientError):
        gradcheck(wrong(SPOILED[spoiled]), x)


@pytest.mark.parametrize("x", [SMALL[:1, :1], LARGE], ids=["entry by entry", "along directions"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_infinite_gradients(x):
    with pytest.raises(GradientError):
        gradcheck(
            wrong(lambda g: np.where(np.arange(g.size) == 0, np.inf, g.flat).reshape(g.shape)), x
        )


def test_the_message_says_what_is_missing_or_misshapen():
    with pytest.raises(GradientError, match="gradient of x is missing"):
        gradcheck(wrong(SPOILED["missing"]), SMALL)
    with pytest.raises(GradientError, match=r"has shape \(12,\), the argument has \(3, 4\)"):
        gradcheck(wrong(SPOILED["flat"]), SMALL)


def test_too_few_gradients():
    def product(a, b):
        def backward(dy):
            return (dy * b,)

        return a * b, backward

    with pytest.raises(GradientError, match="product: gradient of b is missing: .* 1 values"):
        gradcheck(product, SMALL, SMALL)


def test_every_wrong_entry_of_a_large_argument_is_found():
    assert LARGE.size > EACH_ENTRY
    for entry in range(0, LARGE.size, 37):

        def spoil(g, entry=entry):
            g = g.copy()
            g.flat[entry] += 1e-4
            return g

        with pytest.raises(GradientError):
            gradcheck(wrong(spoil), LARGE)


def test_a_backward_that_writes_to_dy_is_found():
    def exp(x):
        y = np.exp(x)

        def backward(dy):
            dy *= y
            return (dy,)

        return y, backward

    with pytest.raises(GradientError):
        gradcheck(exp, SMALL)


def test_a_softmax_that_returns_zeros_is_found_because_dy_is_random():
    def softmax(x):
        y, backward = ops.softmax(x)

        def without_dy(dy):
            return backward(np.ones_like(dy))  # what a loss of y.sum() would send back

        return y, without_dy

    with pytest.raises(GradientError):
        gradcheck(softmax, SMALL)


# ---- options -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x", 0])
def test_a_zero_gradient_passes_only_by_name_or_number(name):
    constant = functools.partial(ops.multiply, b=0.0)

    def nothing(x):
        y, backward = constant(x)
        return y, lambda dy: backward(dy)[:1]

    with pytest.raises(GradientError, match=r"x is 0 everywhere.*allow_zero=\('x',\)"):
        gradcheck(nothing, SMALL)
    assert gradcheck(nothing, SMALL, allow_zero=(name,)) == 0
    with pytest.raises(GradientError, match="0 everywhere"):
        gradcheck(nothing, SMALL, allow_zero=("y", 1))


def test_allow_zero_does_not_excuse_a_wrong_zero():
    with pytest.raises(GradientError, match="x is wrong"):
        gradcheck(wrong(lambda g: 0 * g), SMALL, allow_zero=("x",))


def test_an_empty_argument_has_nothing_to_check():
    assert gradcheck(ops.add, np.zeros((0, 3)), np.zeros((0, 3))) == 0


def test_tolerances():
    off_by_a_thousandth = wrong(lambda g: 1.001 * g)
    with pytest.raises(GradientError):
        gradcheck(off_by_a_thousandth, SMALL, rtol=9e-4)
    gradcheck(off_by_a_thousandth, SMALL, rtol=1.1e-3)
    tiny = wrong(lambda g: g + 1e-5)
    with pytest.raises(GradientError):
        gradcheck(tiny, SMALL, atol=1e-6)
    gradcheck(tiny, SMALL, atol=1e-4)


def test_eps_is_the_step():
    def cube(x):
        def backward(dy):
            return (3 * x * x * dy,)

        return x**3, backward

    x, eps = np.array(1.0), 1e-2  # (x + eps)^3 - (x - eps)^3 = 2 eps (3 x^2 + eps^2)
    assert gradcheck(cube, x, eps=eps, rtol=1) == pytest.approx(eps**2 / 3, rel=1e-6)


def test_the_defaults_are_those_of_the_design():
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(gradcheck).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    assert defaults == {"eps": 1e-6, "rtol": 1e-6, "atol": 1e-9, "rng": 0, "allow_zero": ()}


def test_an_error_in_the_function_itself_is_shown():
    def broken(x):
        raise KeyError("in the network")

    with pytest.raises(KeyError, match="in the network"):
        gradcheck(broken, SMALL)
    with pytest.raises(TypeError, match="a tuple of Tensors, not list"):
        gradcheck(lambda x: [Tensor(np.ones(2))], SMALL)
