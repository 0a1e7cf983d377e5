"""A residual sum and the norm behind it."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from op_checks import check_against_torch, check_op, examples, saved_bytes

from tinygpt import Tensor, ops
from tinygpt import functional as F
from tinygpt.cases import Draw
from tinygpt.nn import LayerNorm, RMSNorm

rows = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5).filter(lambda s: s[-1] > 2)


@examples
@given(rows)
def test_gradient(shape):
    d, C = Draw(0), shape[-1]
    check_op(ops.add_layer_norm, d(*shape), d(*shape), d(C), d(C))
    check_op(functools.partial(ops.add_layer_norm, eps=0.5), d(*shape), d(*shape), d(C))
    check_op(ops.add_rms_norm, d(*shape), d(*shape), d(C))
    check_op(functools.partial(ops.add_rms_norm, eps=0.5), d(*shape), d(*shape))


def test_by_hand():
    x, h, w = np.array([[0.5, 3.0]]), np.array([[0.5, 4.0]]), np.array([10.0, 1.0])
    (s, y), backward = ops.add_rms_norm(x, h, w, eps=0)
    np.testing.assert_allclose(s, [[1, 7]], rtol=1e-15)
    np.testing.assert_allclose(y, [[2, 1.4]], rtol=1e-15)  # rms: sqrt(50 / 2) = 5
    dx, dh, dw = backward(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0]]))
    # from the norm [1.96 -0.28], as in test_rms_norm.py, and from the sum [3 4]
    np.testing.assert_allclose(dx, [[4.96, 3.72]], rtol=1e-14)
    np.testing.assert_allclose(dh, dx, rtol=0)
    np.testing.assert_allclose(dw, [0.2, 0], rtol=1e-15)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_torch(norm):
    d, add_norm = Draw(0), getattr(ops, f"add_{norm}")

    def reference(torch, x, h, w):
        return x + h, getattr(torch.nn.functional, norm)(x + h, (5,), w, eps=0.1)

    check_against_torch(
        functools.partial(add_norm, eps=0.1), reference, d(2, 3, 5), d(2, 3, 5), d(5)
    )


def test_saves_what_the_norm_saves():
    x, h, w = Draw(0)(2, 3, 5), Draw(1)(2, 3, 5), Draw(0)(5)
    saved = saved_bytes(ops.layer_norm, x, w)
    assert saved_bytes(ops.add_layer_norm, x, h, w) == saved
    assert saved_bytes(ops.add_layer_norm, x, None, w) == saved
    assert saved_bytes(ops.add_rms_norm, x, h, w) == saved_bytes(ops.rms_norm, x, w)


def test_a_sum_with_nothing_is_x():
    x, w, ds, dy = Draw(0)(2, 5), Draw(1)(5), Draw(2)(2, 5), Draw(3)(2, 5)
    (s, y), backward = ops.add_rms_norm(x, None, w)
    (_, expected), expected_backward = ops.add_rms_norm(x, np.zeros((2, 5)), w)
    assert s is x
    np.testing.assert_array_equal(y, expected)
    dx, dh, dw = backward(ds, dy)
    expected_dx, _, expected_dw = expected_backward(ds, dy)
    assert dh is None
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_array_equal(dw, expected_dw)


@pytest.mark.parametrize("layer", [LayerNorm(4, eps=0.1), LayerNorm(4, False), RMSNorm(4, 0.1)])
def test_of_a_layer(layer):
    for i, p in enumerate(layer.parameters()):
        p.data = Draw(2 + i)(4).astype("float32")
    x, h = (Tensor(Draw(i)(3, 4).astype("float32")) for i in range(2))
    for added, expected in ((h, x + h), (None, x)):
        s, y = layer.add_and_norm(x, added)
        np.testing.assert_array_equal(s.data, expected.data)
        np.testing.assert_array_equal(y.data, layer(expected).data)


@pytest.mark.parametrize("unused", [0, 1])
def test_one_of_the_results_may_go_unused(unused):
    x, h, w = (
        Tensor(Draw(i)(*shape), requires_grad=True)
        for i, shape in enumerate([(2, 4), (2, 4), (4,)])
    )
    used = F.add_rms_norm(x, h, w)[1 - unused]
    used.backward(np.ones((2, 4)))
    found = x.grad, h.grad
    x.grad = h.grad = None
    (F.rms_norm(x + h, w) if unused == 0 else x + h).backward(np.ones((2, 4)))
    for a, e in zip(found, (x.grad, h.grad), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-13)
