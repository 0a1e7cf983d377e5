"""Tensor: what it computes, what it remembers, and when it forgets."""

import gc
import operator
import weakref

import numpy as np
import pytest
from small_gpt import small_batch, small_gpt

from tinygpt import AdamW, Tensor, accumulate_gradients, apply, gradcheck, no_grad
from tinygpt import functional as F
from tinygpt.backend import thread_map
from tinygpt.gather import gather_gradients
from tinygpt.tensor import enable_grad


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def leaf(*shape, seed=0):
    return Tensor(normal(*shape, seed=seed), requires_grad=True)


@pytest.fixture
def no_collector():
    """The garbage collector is off, and had nothing left to do before."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---- values and gradients -----------------------------------------------------------------------

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]


@pytest.mark.parametrize("op", OPERATORS)
def test_operators(op):
    a, b = abs(normal(3, 4)) + 0.5, abs(normal(4, seed=1)) + 0.5
    for left, right in [
        (Tensor(a), Tensor(b)),
        (Tensor(a), b),
        (a, Tensor(b)),
        (Tensor(a), 3),
        (2.5, Tensor(b)),
    ]:
        expected = op(*[x.data if isinstance(x, Tensor) else x for x in (left, right)])
        y = op(left, right)
        assert isinstance(y, Tensor)
        np.testing.assert_array_equal(y.data, expected)
    assert gradcheck(op, a, b) < 1e-6
    assert gradcheck(lambda x: op(x, b), a) < 1e-6
    assert gradcheck(lambda x: op(a, x), b) < 1e-6
    assert gradcheck(lambda x: op(x, 3), a) < 1e-6
    assert gradcheck(lambda x: op(2.5, x), a) < 1e-6


def test_matmul_operator():
    a, b = normal(2, 3, 4), normal(4, 5)
    for y in (Tensor(a) @ Tensor(b), a @ Tensor(b), Tensor(a) @ b):
        np.testing.assert_allclose(y.data, a @ b, rtol=1e-14)
    assert gradcheck(lambda x: x @ b, a) < 1e-6
    assert gradcheck(lambda x: a @ x, b) < 1e-6


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("scalar", [3, 2.5])
def test_numbers_keep_float32(op, scalar):
    for f in (lambda x: op(x, scalar), lambda x: op(scalar, x)):
        x = Tensor(np.array([0.5, 2.0], "float32"), requires_grad=True)
        y = f(x)
        y.sum().backward()
        assert y.dtype == x.grad.dtype == np.float32


METHODS = ["exp", "log", "tanh", "sigmoid", "relu", "gelu", "silu", "softmax"]


@pytest.mark.parametrize("name", [*METHODS, "sum", "mean", "max", "__neg__"])
def test_methods(name):
    x = abs(normal(3, 4)) + 0.1
    assert gradcheck(lambda t: getattr(t, name)(), x) < 1e-6
    assert getattr(Tensor(x.astype("float32")), name)().dtype == np.float32
    assert isinstance(getattr(Tensor(x), name)().data, np.ndarray)  # 0-d too, not np.float64


def test_shape_methods():
    x = leaf(2, 3, 4)
    assert x.reshape(6, 4).shape == x.reshape((6, -1)).shape == (6, 4)
    assert x.transpose(2, 0, 1).shape == x.transpose((2, 0, 1)).shape == (4, 2, 3)
    assert x.transpose().shape == x.T.shape == (4, 3, 2)
    assert x.sum(axis=1).shape == (2, 4)
    assert (x.ndim, x.size, len(x)) == (3, 24, 2)
    assert gradcheck(lambda t: t.reshape(6, 4).T * np.arange(6.0), x.data) < 1e-6


@pytest.mark.parametrize(
    "key",
    [
        1,
        slice(None, None, 2),
        (Ellipsis, -1),
        (slice(1, 3), None, 2),
        np.array([2, 0, 2, 2]),
        (np.array([[0, 2], [2, 2]]), np.array([1, 1])),
        normal(3, 4) > 0,
    ],
)
def test_indexing(key):
    x = normal(3, 4)
    np.testing.assert_array_equal(Tensor(x)[key].data, x[key])
    assert gradcheck(lambda t: t[key], x) < 1e-6


def test_an_element_taken_twice_gets_both_gradients():
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x[[0, 0, 2]] * [10.0, 20.0, 5.0]).sum().backward()
    np.testing.assert_array_equal(x.grad, [30.0, 0.0, 5.0])


def test_broadcasting_sums_the_gradient_back():
    column, row = leaf(3, 1), leaf(2, seed=1)
    (column * row).sum().backward()
    np.testing.assert_allclose(column.grad, np.full((3, 1), row.data.sum()))
    np.testing.assert_allclose(row.grad, np.full(2, column.data.sum()))


# ---- a Tensor by itself -------------------------------------------------------------------------


def test_data_is_not_copied():
    a = normal(3)
    assert Tensor(a).data is a
    np.testing.assert_array_equal(Tensor([1, 2]).data, [1, 2])
    assert isinstance(Tensor(np.float32(2)).data, np.ndarray)


def test_only_floats_have_gradients():
    with pytest.raises(TypeError, match="only floats have gradients.*int64"):
        Tensor(np.arange(3), requires_grad=True)
    with pytest.raises(TypeError, match=r"use x.detach\(\)"):
        Tensor(Tensor([1.0]))


def test_as_a_number():
    x = Tensor(np.float32(1.5))
    assert x.item() == float(x) == 1.5
    assert isinstance(x.item(), float)
    assert x
    assert not Tensor(0.0)
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5], dtype=float64, requires_grad=False)"


def test_detach():
    x = leaf(3)
    constant = (x * 2).detach()
    assert not constant.requires_grad
    assert x.detach().data is x.data
    (x * constant).sum().backward()
    np.testing.assert_array_equal(x.grad, 2 * x.data)  # d(x * x) would be twice that


# ---- backward -----------------------------------------------------------------------------------


def test_gradients_add_up_over_uses():
    x = Tensor([1.0, -2.0, 3.0], requires_grad=True)
    (x * x * x + x / x + x + x).sum().backward()
    np.testing.assert_allclose(x.grad, 3 * x.data**2 + 2)


def test_an_op_may_take_the_same_tensor_twice():
    x = leaf(3, 3)
    dy = normal(3, 3, seed=1)
    (x @ x).backward(dy)
    np.testing.assert_allclose(x.grad, dy @ x.data.T + x.data.T @ dy)


def test_gradients_add_up_over_calls():
    x = leaf(3)
    for calls in (1, 2, 3):
        (x * 2).sum().backward()
        np.testing.assert_array_equal(x.grad, np.full(3, 2.0 * calls))


def test_only_leaves_keep_a_gradient():
    x, constant = leaf(3), Tensor(normal(3, seed=1))
    y = x * constant
    y.sum().backward()
    assert y.grad is None
    assert constant.grad is None
    np.testing.assert_array_equal(x.grad, constant.data)


def test_backward_of_a_leaf():
    x = leaf(1)
    x.backward()
    x.backward([2.0])
    np.testing.assert_array_equal(x.grad, [3.0])


def test_backward_from_a_given_gradient():
    x, dy = leaf(2, 3), normal(2, 3, seed=1)
    (x * 2).backward(dy)
    np.testing.assert_array_equal(x.grad, 2 * dy)
    with pytest.raises(ValueError, match=r"grad has shape \(3,\), the Tensor has \(2, 3\)"):
        (x * 2).backward(dy[0])


def test_a_given_gradient_takes_the_dtype_of_the_tensor():
    def op(x):
        def backward(dy):
            assert dy.dtype == np.float32
            return (dy,)

        return x + 0, backward

    apply(op, Tensor(np.ones(3, "float32"), requires_grad=True)).backward([1, 2, 3])


def test_backward_needs_a_single_number():
    with pytest.raises(ValueError, match=r"starts from one number, and this has shape \(3,\)"):
        (leaf(3) * 2).backward()


def test_backward_without_anything_to_differentiate():
    with pytest.raises(RuntimeError, match="no Tensor with requires_grad=True led here"):
        Tensor(1.0).backward()
    with no_grad():
        loss = leaf(3).sum()
    with pytest.raises(RuntimeError, match="no Tensor with requires_grad=True led here"):
        loss.backward()


def test_a_second_backward_says_what_to_do():
    loss = (leaf(3) * 2).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


def test_a_second_backward_through_a_shared_part_says_what_to_do():
    shared = leaf(3) * 2
    one, other = shared.sum(), shared.mean()
    one.backward()
    with pytest.raises(RuntimeError, match="compute the loss again"):
        other.backward()


@pytest.mark.parametrize("used", [0, 1, 2])
def test_a_result_that_is_not_used(used):
    x = leaf(4, 6)
    parts = F.split(x, sizes=(1, 2, 3))
    (parts[used] * 2).sum().backward()
    expected = np.zeros((4, 6))
    expected[:, [slice(0, 1), slice(1, 3), slice(3, 6)][used]] = 2
    np.testing.assert_array_equal(x.grad, expected)


def test_order_does_not_depend_on_who_was_made_first():
    """A diamond whose arms have different lengths: the old node must wait for both."""
    x = Tensor(2.0, requires_grad=True)
    square = x * x
    late = (square * 3 + 1) * 2
    (square * late).backward()  # 6 x^4 + 2 x^2
    assert x.grad == 24 * 2.0**3 + 4 * 2.0


# ---- nobody else's arrays are written to --------------------------------------------------------


def test_leaves_do_not_share_their_gradient():
    a, b = leaf(3), leaf(3, seed=1)
    dy = np.ones(3)
    (a + b).backward(dy)
    assert not np.shares_memory(a.grad, b.grad)
    a.grad *= 100
    a.sum().backward()
    np.testing.assert_array_equal(a.grad, [101.0] * 3)
    np.testing.assert_array_equal(b.grad, [1.0] * 3)
    np.testing.assert_array_equal(dy, [1.0] * 3)


def test_a_view_as_gradient_is_not_written_to():
    a, b, dy = leaf(2, 3), leaf(6, seed=1), normal(6, seed=2)
    y = a.reshape(6) + b
    for _ in range(2):
        (y + 0).detach()
        (a.reshape(6) + b).backward(dy)
    np.testing.assert_array_equal(a.grad, 2 * dy.reshape(2, 3))
    np.testing.assert_array_equal(b.grad, 2 * dy)
    np.testing.assert_array_equal(dy, normal(6, seed=2))


def test_gather_gradients_leaves_grad_alone():
    a, b = leaf(3), leaf(3, seed=1)
    with gather_gradients() as gradients:
        (a + b + a).sum().backward()
        (b * 5).sum().backward()
    assert a.grad is None
    assert b.grad is None
    np.testing.assert_array_equal(gradients[a], [2.0] * 3)
    np.testing.assert_array_equal(gradients[b], [6.0] * 3)
    a.sum().backward()
    np.testing.assert_array_equal(a.grad, [1.0] * 3)


# ---- no_grad ------------------------------------------------------------------------------------


def test_no_grad():
    x = leaf(3)
    with no_grad():
        assert not (x * 2).requires_grad
        with enable_grad():
            assert (x * 2).requires_grad
            with no_grad():
                assert not (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception():
    def fail():
        with no_grad():
            raise KeyError

    pytest.raises(KeyError, fail)
    assert (leaf(3) * 2).requires_grad


def test_no_grad_reaches_the_threads():
    x = leaf(3)
    with no_grad():
        assert thread_map(lambda _: (x * 2).requires_grad, range(4)) == [False] * 4
    assert thread_map(lambda _: (x * 2).requires_grad, range(4)) == [True] * 4

    def without(_):
        with no_grad():
            return (x * 2).requires_grad

    assert thread_map(without, range(4)) == [False] * 4
    assert thread_map(lambda _: (x * 2).requires_grad, range(4)) == [True] * 4


# ---- memory -------------------------------------------------------------------------------------


def chain(x, length):
    """x * 1 * 1 ... -> the end of it, and a weak reference to an array in it."""
    y = x * 1.0
    array = weakref.ref(y.data)  # saved by the next op
    for _ in range(length - 1):
        y = y * 1.0
    return y, array


@pytest.mark.parametrize("length", [30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_long_chain(length, no_collector):
    x = leaf(1)
    y, array = chain(x, length)
    assert array() is not None
    y.backward()
    assert array() is None
    assert x.grad == 1

    y, array = chain(x, length)
    del y  # without backward
    assert array() is None


def test_the_last_name_frees_everything(no_collector):
    x = leaf(3)
    y = x.tanh()
    z = (y * y).sum()
    tensor, array = weakref.ref(y), weakref.ref(y.data)
    del y
    assert tensor() is None  # the graph needs what y held, not y
    assert array() is not None
    del z
    assert array() is None


def test_backward_frees_as_it_goes():
    saved = []

    def op(x, w):
        """y = x, saving an array of its own, and w gets a gradient from it."""
        array = np.ones(5)
        saved.append(weakref.ref(array))
        number = len(saved)

        def backward(dy, to_leaf=(False, False)):
            alive = [ref() is not None for ref in saved]
            assert alive == [True] * number + [False] * (len(saved) - number)
            assert to_leaf[1]
            return dy, lambda grad: np.add(grad, array.sum(), out=grad)

        return x + 0, backward

    x, w = leaf(1), leaf(1)
    y = x
    for _ in range(5):
        y = apply(op, y, w)
    y.backward()  # y keeps its node, but the node nothing
    assert [ref() for ref in saved] == [None] * 5
    assert x.grad == 1
    assert w.grad == 25


@pytest.mark.parametrize("micro_batches", [None, 1, 2])
def test_a_training_step_leaves_nothing_to_the_collector(micro_batches, no_collector):
    model = small_gpt(dropout=0.1, n_kv_head=1, n_layer=1)
    ids, targets = small_batch()
    optimizer = AdamW(model.parameters())

    def train(step):
        if micro_batches is None:
            model.loss(ids, targets, rng=(0, step)).backward()
        else:
            accumulate_gradients(model.loss, ids, targets, (0, step), micro_batches)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

    train(0)  # what is made once: threads, the controller of BLAS
    gc.collect()
    before = len(gc.get_objects())
    for step in range(1, 13):
        train(step)
    # One object kept per step would be 12; a thread that is just going to sleep may hold a few.
    assert len(gc.get_objects()) - before < 10
    assert gc.collect() == 0


# ---- work that nobody asked for -----------------------------------------------------------------


class Counting(np.ndarray):
    """An array that counts the matrix products it takes part in."""

    products = 0

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        Counting.products += ufunc is np.matmul
        plain = [x.view(np.ndarray) if isinstance(x, Counting) else x for x in inputs]
        if "out" in options:
            options["out"] = tuple(x.view(np.ndarray) for x in options["out"])
        y = getattr(ufunc, method)(*plain, **options)
        return y.view(Counting) if isinstance(y, np.ndarray) else y


def products(f, x, w, x_learns, w_learns):
    """How many matrix products backward() takes."""
    y = f(
        Tensor(x.view(Counting), requires_grad=x_learns),
        Tensor(w.view(Counting), requires_grad=w_learns),
    ).sum()
    before = Counting.products
    y.backward()
    return Counting.products - before


@pytest.mark.parametrize("f", [F.matmul, F.linear])
def test_what_is_frozen_costs_no_product(f):
    x, w = normal(2, 3, 4), normal(4, 5, seed=1)
    assert products(f, x, w, True, True) == 2
    assert products(f, x, w, True, False) == 1
    assert products(f, x, w, False, True) == 1


def test_needs_says_what_is_wanted():
    asked = []

    def op(a, b, c):
        def backward(dy, needs=(True, True, True)):
            asked.append(tuple(needs))
            return tuple(dy if needed else None for needed in needs)

        return a + b + c, backward

    a, b = leaf(3), leaf(3, seed=1)
    apply(op, a, Tensor(normal(3)), b).sum().backward()
    apply(op, a, normal(3), 2.0).sum().backward()
    assert asked == [(True, False, True), (True, False, False)]
    np.testing.assert_array_equal(a.grad, [2.0] * 3)
    np.testing.assert_array_equal(b.grad, [1.0] * 3)


def test_a_backward_with_another_default_is_not_asked_to_leave_anything_out():
    def scale(x, c):
        def backward(dy, c=c):
            return dy * c, None

        return x * c, backward

    x = Tensor(np.ones(3), requires_grad=True)
    apply(scale, x, 2.0).sum().backward()
    np.testing.assert_array_equal(x.grad, 2.0)
