"""What the tape is held to: gradients of networks, and what arrives where."""

import contextlib
import sys
import threading
import time

import numpy as np
from op_checks import assert_close, assert_same, check_gradient, check_leaves_inputs_alone

import tinygpt
from tinygpt import functional as F
from tinygpt import ops
from tinygpt.cases import Draw
from tinygpt.rng import Key


def network(x, w):
    """Results used twice, old ones used late, one gradient for two inputs, a result unused."""
    a, b = x.exp(), w.tanh()
    late = 3 * a
    both = a + b
    _, last = F.split(x * both, [1, 3], axis=1)
    return both * late + last.sum(axis=1, keepdims=True) * x


def tape(_):
    """The gradient of a network; what arrives at a leaf, once, twice and where it is frozen."""
    x, w = Draw(0)(2, 4), Draw(1)(2, 4)
    check_gradient(network, x, w)
    check_leaves_inputs_alone(tinygpt.vjp(network), x, w)
    check_gradient(lambda x, w: tinygpt.remat(network, x, w), x, w)

    a, b = tinygpt.Tensor(x, requires_grad=True), tinygpt.Tensor(w, requires_grad=True)
    for _ in range(2):
        (a + b).backward(np.ones((2, 4)))
    assert_same(a.grad, np.full((2, 4), 2.0))
    assert_same(b.grad, a.grad)

    dy, frozen = np.cos(w), x.T
    b.grad = None
    (tinygpt.Tensor(frozen) @ b).backward(frozen @ dy)
    assert_close(b.grad, x @ frozen @ dy)

    rows = tinygpt.Tensor(Draw(1)(5, 2), requires_grad=True)
    for _ in range(2):
        F.embedding(np.array([4, 0, 4]), rows).sum().backward()  # its gradient comes in parts
    assert_close(rows.grad, np.array([2.0, 0, 0, 0, 4])[:, None] * np.ones((5, 2)))

    a.grad = None
    network(a, b).backward(dy)
    assert_close(a.grad, tinygpt.vjp(network)(x, w)[1](dy)[0])


def product_that_adds(x, w):
    """x * w, whose backward adds to what is there, where the tape says that w is a leaf."""

    def backward(dy, to_leaf=(False, False)):
        def add_to(grad):
            grad += dy * x
            return grad

        return dy * w, add_to if to_leaf[1] else dy * x

    return x * w, backward


def added(_):
    """A backward that adds to what is there comes to the gradients of one that does not."""

    def network(x, w, product=ops.multiply):
        x = x.exp()
        y = tinygpt.tensor.apply(product, x, w)  # w is a leaf
        return x + tinygpt.tensor.apply(product, w, y.tanh())  # y.tanh() is none

    def by_adding(x, w):
        return network(x, w, product_that_adds)

    x, w, dy = (Draw(i)(3, 2) for i in range(3))
    expected = tinygpt.vjp(network)(x, w)[1](dy)
    found = [tinygpt.vjp(by_adding)(x, w)[1](dy)]
    gather = sys.modules["tinygpt.gather"]
    for gathered in (None, gather.Gathered(), gather.GatheredInTurn(gather.Turns(1), 0)):
        leaves = [tinygpt.Tensor(a.T.copy().T, requires_grad=True) for a in (x, w)]
        with contextlib.ExitStack() as stack:
            if gathered is not None:
                stack.enter_context(gather.gather_gradients(gathered))
            by_adding(*leaves).backward(dy)
        sums = [(0 if a.grad is None else a.grad) + (gathered or {}).get(a, 0) for a in leaves]
        found.append(sums)
    leaf = tinygpt.Tensor(w, requires_grad=True)
    tinygpt.tensor.apply(product_that_adds, x, leaf).backward(dy)
    assert_close(leaf.grad, dy * x)
    for gradients in found:
        for a, e in zip(gradients, expected, strict=True):
            assert_close(a, e)


def gathered(_):
    """gather_gradients adds up what two uses of a leaf give, whole and in parts."""
    x = tinygpt.Tensor(Draw(0)(3), requires_grad=True)
    w = tinygpt.Tensor(Draw(1)(5, 2), requires_grad=True)
    with sys.modules["tinygpt.gather"].gather_gradients() as found:
        (x * x).sum().backward()
        x.sum().backward()
        for _ in range(2):
            F.embedding(np.array([4, 0, 4]), w).sum().backward()
    assert_close(found[x], 2 * x.data + 1)
    assert_close(found[w], np.array([2.0, 0, 0, 0, 4])[:, None] * np.ones((5, 2)))
    assert x.grad is None


def in_turn(_):
    """Two threads add to a large leaf in one order, whichever of them is slow."""
    gather = sys.modules["tinygpt.gather"]
    leaf = tinygpt.Tensor(np.ones(gather.LARGE), requires_grad=True)

    def two():
        turns = gather.Turns(2)
        return turns, [gather.GatheredInTurn(turns, i) for i in range(2)]

    _, gathered = two()
    for i, number in ((0, 1.0), (1, 2.0), (0, 3.0), (1, 4.0)):
        gathered[i].add(leaf, np.full(leaf.shape, number))
    assert_same(leaf.grad, np.full(leaf.shape, 10.0))
    assert gathered == [{}, {}]

    class Impatient(contextlib.nullcontext):  # instead of a Condition: whoever has to wait fails
        def wait_for(self, ready):
            if not ready():
                raise TimeoutError

        def notify_all(self):
            pass

    turns, gathered = two()
    turns.changed = Impatient()

    def has_to_wait(thread):
        try:
            thread.add(leaf, np.zeros(leaf.shape))
        except TimeoutError:
            return True
        return False

    for i in (0, 1, 0, 1):  # each in turn, and the other one cannot
        assert has_to_wait(gathered[1 - i])
        assert not has_to_wait(gathered[i])

    for slow in range(2):
        leaf.grad = []  # a list, to which += appends: it says who came when
        turns, gathered = two()

        def work(i, turns=turns, gathered=gathered, slow=slow):
            try:
                for number in range(3 if i else 2):
                    time.sleep(0.002 * (i == slow))
                    gathered[i].add(leaf, [(..., [10 * number + i])])
            finally:  # so that nobody waits for a thread that failed
                turns.leave(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert leaf.grad == [0, 1, 10, 11, 21]


def table(_):
    """A table gets the same gradient in parts as it gets whole."""
    for op, inputs in (
        (tinygpt.ops.embedding, [np.array([[4, 0, 4], [2, 4, 1]]), Draw(1)(5, 2)]),
        (tinygpt.ops.linear_cross_entropy, [Draw(0)(3, 2), Draw(1)(5, 2), np.array([4, -1, 0])]),
    ):
        y, backward = op(*inputs)
        dy, found = np.cos(1 + y), np.zeros((5, 2))
        for where, numbers in backward(dy, in_parts=True)[1]:
            found[where] += numbers
        assert_close(found, backward(dy)[1])


def parts(_):
    """Half of a batch draws the dropout masks that it draws in the whole."""
    x, key = Draw(0)(4, 3, 5, 7), Key((1, 2))

    def drop(x, rng):
        x = F.dropout(tinygpt.Tensor(x), 0.5, rng)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, rng=rng.fold(1)).data

    assert_same(drop(x[2:], key.part(2)), drop(x, key)[2:])
