"""vjp makes an op of a function of Tensors; remat keeps only the inputs and runs it twice."""

import tracemalloc

import numpy as np
import pytest
from small_gpt import assert_same_gradients, gradients, small_batch, small_gpt

from tinygpt import Tensor, accumulate_gradients, apply, gradcheck, no_grad, remat, vjp
from tinygpt import functional as F
from tinygpt.gather import gather_gradients


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def network(x, w, b):
    return F.layer_norm(F.gelu(x @ w + b) + x, w[0], b)


X, W, BIAS, DY = normal(2, 5, 4), normal(4, 4, seed=1), normal(4, seed=2), normal(2, 5, 4, seed=3)


# ---- vjp ----------------------------------------------------------------------------------------


def test_a_network_is_an_op():
    y, backward = vjp(network)(X, W, BIAS)
    assert isinstance(y, np.ndarray)
    tensors = [Tensor(a, requires_grad=True) for a in (X, W, BIAS)]
    expected = network(*tensors)
    expected.backward(DY)
    np.testing.assert_array_equal(y, expected.data)
    for dx, tensor in zip(backward(DY), tensors, strict=True):
        np.testing.assert_array_equal(dx, tensor.grad)
    assert gradcheck(vjp(network), X, W, BIAS) < 1e-6


def test_backward_gives_the_same_answer_again():
    _, backward = vjp(network)(X, W, BIAS)
    first = [dx.copy() for dx in backward(DY)]
    backward(2 * DY)
    for dx, expected in zip(backward(DY), first, strict=True):
        np.testing.assert_array_equal(dx, expected)


def test_a_network_is_an_op_of_a_larger_network():
    x = Tensor(X, requires_grad=True)
    (apply(vjp(network), x * 2, W, BIAS) * DY).sum().backward()
    _, backward = vjp(network)(2 * X, W, BIAS)
    np.testing.assert_allclose(x.grad, 2 * backward(DY)[0], rtol=1e-12)


def test_an_input_that_is_ignored_has_gradient_zero():
    _, backward = vjp(lambda a, b: a * 2)(X, W)
    da, db = backward(DY)
    np.testing.assert_array_equal(da, 2 * DY)
    np.testing.assert_array_equal(db, np.zeros_like(W))
    constant = Tensor(W)
    _, backward = vjp(lambda a: constant)(X)
    np.testing.assert_array_equal(backward(W)[0], np.zeros_like(X))
    assert constant.grad is None


def test_the_function_may_return_its_input():
    y, backward = vjp(lambda a: a)(X)
    np.testing.assert_array_equal(y, X)
    np.testing.assert_array_equal(backward(DY)[0], DY)


def test_what_holds_no_floats_reaches_the_function_as_it_is():
    ids = np.array([[0, 3], [3, 1]])

    def look_up(ids, w, note):
        assert isinstance(ids, np.ndarray)
        assert note == "a string"
        return F.embedding(ids, w)

    _, backward = vjp(look_up)(ids, W, "a string")
    dids, dw, dnote = backward(normal(2, 2, 4))
    assert dids is None
    assert dnote is None
    assert dw.shape == W.shape


def test_gradients_of_closed_over_tensors_land_in_grad():
    w = Tensor(W, requires_grad=True)
    _, backward = vjp(lambda x: x @ w)(X)
    backward(DY)
    expected = np.einsum("btk,btn->kn", X, DY)
    np.testing.assert_allclose(w.grad, expected)
    with gather_gradients() as gathered:
        (dx,) = backward(DY)
    np.testing.assert_allclose(w.grad, expected)
    np.testing.assert_allclose(gathered[w], expected)
    np.testing.assert_allclose(dx, DY @ W.T)


def test_vjp_inside_no_grad_still_differentiates():
    with no_grad():
        _, backward = vjp(network)(X, W, BIAS)
        inside = backward(DY)
    for dx, expected in zip(inside, vjp(network)(X, W, BIAS)[1](DY), strict=True):
        np.testing.assert_array_equal(dx, expected)


def test_several_results():
    def f(x, w):
        left, right = F.split(x @ w, sizes=(1, 3))
        return left, right * left, x, Tensor(BIAS)  # used again, given back, a constant

    assert gradcheck(vjp(f), X, W) < 1e-6
    assert gradcheck(f, X, W) < 1e-6
    y, backward = vjp(f)(X, W)
    assert [part.shape for part in y] == [(2, 5, 1), (2, 5, 3), (2, 5, 4), (4,)]
    dys = [np.cos(part) for part in y]
    dx, dw = backward(*dys)
    left, right = np.split(X @ W, [1], axis=-1)
    dleft = dys[0] + (dys[1] * right).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(dx, np.concatenate([dleft, dys[1] * left], -1) @ W.T + dys[2])


@pytest.mark.parametrize(
    ("result", "found"), [(X, "ndarray"), (3.0, "float"), ((), "tuple"), ((X,), "ndarray")]
)
def test_a_function_returns_tensors(result, found):
    for run in (vjp(lambda x: result), lambda x: remat(lambda x: result, Tensor(x))):
        with pytest.raises(TypeError, match=f"returns a Tensor or a tuple of Tensors, not {found}"):
            run(X)


# ---- remat --------------------------------------------------------------------------------------


def block(x, weights, key=(7,)):
    """Closes over its weights, as the block of a model does."""
    for i, w in enumerate(weights):
        x = F.dropout(F.tanh(x @ w), 0.5, rng=(*key, i)) + x
    return x


def nested(x, weights):
    x = remat(lambda x: block(x, weights[:2]), x)
    return remat(lambda x: block(x, weights[2:]), x)


def run(f, x_learns=True):
    """-> the value and the gradients of f(x, weights), whatever f is made of."""
    x = Tensor(X, requires_grad=x_learns)
    weights = [Tensor(normal(4, 4, seed=i), requires_grad=True) for i in range(4)]
    y = f(x, weights)
    y.backward(DY)
    assert x_learns == (x.grad is not None)
    return y.data, [t.grad for t in (x, *weights) if t.grad is not None]


@pytest.mark.parametrize("x_learns", [True, False])
def test_remat_gives_the_same_gradients(x_learns):
    """With dropout, and also where only closed-over weights want a gradient."""
    value, expected = run(block, x_learns)
    found_value, found = run(lambda x, ws: remat(lambda x: block(x, ws), x), x_learns)
    np.testing.assert_array_equal(found_value, value)
    assert len(found) == len(expected) == 4 + x_learns
    for dx, dx_expected in zip(found, expected, strict=True):
        np.testing.assert_allclose(dx, dx_expected, rtol=1e-12, atol=1e-14)


def test_remat_inside_remat():
    def twice(x, weights):
        return block(block(x, weights[:2]), weights[2:])

    value, expected = run(twice)
    found_value, found = run(lambda x, ws: remat(lambda x: nested(x, ws), x))
    np.testing.assert_array_equal(found_value, value)
    for dx, dx_expected in zip(found, expected, strict=True):
        np.testing.assert_allclose(dx, dx_expected, rtol=1e-12, atol=1e-14)


def test_remat_of_several_inputs():
    a, b = Tensor(X, requires_grad=True), Tensor(X[0], requires_grad=True)
    remat(lambda a, ids, b: a[ids] * b, a, np.array([1, 1, 0]), b).sum().backward()
    np.testing.assert_allclose(a.grad, np.stack([X[0], 2 * X[0]]))
    np.testing.assert_allclose(b.grad, 2 * X[1] + X[0])


def test_remat_inside_no_grad_is_just_the_function():
    x = Tensor(X, requires_grad=True)
    with no_grad():
        y = remat(F.tanh, x)
    assert not y.requires_grad
    np.testing.assert_array_equal(y.data, np.tanh(X))


def test_remat_keeps_only_its_inputs():
    x = Tensor(normal(100, 1000), requires_grad=True)  # 0.8 MB
    w = Tensor(normal(1000, 1000) / 30, requires_grad=True)

    def deep(x):
        for _ in range(5):
            x = F.tanh(x @ w)
        return x

    def memory(f):
        """What f leaves behind, and what it takes at most, in arrays the size of x."""
        tracemalloc.start()
        y = f()
        left, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert y.requires_grad
        return left / x.data.nbytes, most / x.data.nbytes

    assert memory(lambda: deep(x))[0] > 4.9  # what each tanh saves
    left, most = memory(lambda: remat(deep, x))
    assert left < 1.1  # the result, and nothing inside
    assert most < 3.5  # a product, its tanh, and the tanh before


def test_remat_of_a_models_blocks():
    """In micro-batches on threads, where gradients of weights go by way of a dict."""
    plain, saving = small_gpt(dropout=0.2), small_gpt(dropout=0.2, remat=True)
    ids, targets = small_batch(ignored=True)
    for model in (plain, saving):
        accumulate_gradients(model.loss, ids, targets, rng=(1, 2), micro_batches=2)
    assert_same_gradients(gradients(saving), gradients(plain), 1e-12)


def test_remat_keeps_arrays_arrays_and_frozen_tensors_frozen():
    constant, frozen = np.array([0.5, 2.0]), Tensor(np.array([3.0, 4.0]))
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    seen = []

    def f(x, c, t):
        seen.append((type(c), t.requires_grad))
        return x * c * t

    y = remat(f, x, constant, frozen)
    y.backward(np.ones(2))
    assert seen == [(np.ndarray, False)] * 2
    np.testing.assert_array_equal(x.grad, constant * frozen.data)
    assert frozen.grad is None


@pytest.mark.parametrize("used", [(0, 1), (0,), (1,)])
def test_remat_of_several_results(used):
    def f(x, w):
        y = (x @ w).tanh()
        return y, (y * x).sum()

    def gradients_of(run):
        x, w = (Tensor(a, requires_grad=True) for a in (X, W))
        results = run(x, w)
        sum((results[i] * (i + 2)).sum() for i in used).backward()
        return x.grad, w.grad

    found, expected = gradients_of(lambda *inputs: remat(f, *inputs)), gradients_of(f)
    for gradient, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(gradient, other)
