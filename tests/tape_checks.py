"""What the tape is held to: gradients of networks, and what arrives where."""

import sys

import numpy as np
from op_checks import assert_close, assert_same, check_gradient, check_leaves_inputs_alone

import tinygpt
from tinygpt import functional as F
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

    a.grad = None
    network(a, b).backward(dy)
    assert_close(a.grad, tinygpt.vjp(network)(x, w)[1](dy)[0])


def gathered(_):
    """gather_gradients adds up what two uses of a leaf give."""
    x = tinygpt.Tensor(Draw(0)(3), requires_grad=True)
    with sys.modules["tinygpt.tensor"].gather_gradients() as found:
        (x * x).sum().backward()
        x.sum().backward()
    assert_close(found[x], 2 * x.data + 1)
    assert x.grad is None


def parts(_):
    """Half of a batch draws the dropout masks that it draws in the whole."""
    x, key = Draw(0)(4, 3, 5, 7), Key((1, 2))

    def drop(x, rng):
        x = F.dropout(tinygpt.Tensor(x), 0.5, rng)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.5, rng=rng.fold(1)).data

    assert_same(drop(x[2:], key.part(2)), drop(x, key)[2:])
