"""functional: every op, lifted to Tensors under the name PyTorch gives it."""

import inspect

import numpy as np
import pytest

from tinygpt import Tensor, gradcheck, ops
from tinygpt import functional as F
from tinygpt.rng import Key


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_every_op_is_there():
    for name in ops.__all__:
        assert callable(getattr(F, name)), name
        assert getattr(F, name).__doc__, name


@pytest.mark.parametrize(
    ("name", "inputs", "options"),
    [
        ("linear", (normal(2, 3, 4), normal(4, 5), normal(5)), {}),
        ("layer_norm", (normal(2, 4), normal(4), normal(4, seed=1)), {"eps": 0.1}),
        ("sum", (normal(2, 3),), {"axis": 0}),
        ("where", (normal(2, 3) > 0, normal(2, 3), normal(3)), {}),
        ("embedding", (np.array([[1, 1], [0, 2]]), normal(3, 4)), {}),
        ("cross_entropy", (normal(2, 3, 4), np.array([[1, -1, 3], [0, 0, -1]])), {}),
    ],
)
def test_a_function_is_its_op(name, inputs, options):
    expected, backward = getattr(ops, name)(*inputs, **options)
    tensors = [Tensor(x, requires_grad=True) if x.dtype.kind == "f" else x for x in inputs]
    y = getattr(F, name)(*tensors, **options)
    np.testing.assert_array_equal(y.data, expected)
    dy = np.asarray(normal(*np.shape(expected), seed=5))
    y.backward(dy)
    for tensor, dx in zip(tensors, backward(dy), strict=True):
        if isinstance(tensor, Tensor):
            np.testing.assert_array_equal(tensor.grad, dx)


def test_arrays_are_constants():
    assert not F.add(normal(3), normal(3)).requires_grad
    assert F.add(normal(3), Tensor(normal(3), requires_grad=True)).requires_grad


def test_signatures_are_those_of_the_ops():
    differ = {"concatenate", "dropout"} | {n for n in ops.__all__ if n.endswith("_attention")}
    for name in set(ops.__all__) - differ:
        assert inspect.signature(getattr(F, name)) == inspect.signature(getattr(ops, name))


def test_concatenate_takes_a_sequence():
    a, b = normal(2, 3), normal(2, 1)
    for sequence in ([Tensor(a), b], (a, Tensor(b))):
        y = F.concatenate(sequence, axis=1)
        np.testing.assert_array_equal(y.data, np.concatenate([a, b], axis=1))
    assert gradcheck(lambda a, b: F.concatenate([a, b, a], axis=-1), a, b) < 1e-6


# ---- dropout ------------------------------------------------------------------------------------


def test_dropout_without_rng_is_nothing():
    x = Tensor(normal(3, 4))
    assert F.dropout(x, 0.5) is x
    assert F.dropout(x, 0.0, rng=1) is x


def test_dropout_drops_and_scales():
    y = F.dropout(Tensor(np.ones((100, 100))), 0.25, rng=1).data
    np.testing.assert_allclose(np.unique(y), [0, 4 / 3])
    assert abs((y == 0).mean() - 0.25) < 0.02  # 5 standard deviations
    assert gradcheck(lambda x: F.dropout(x, 0.3, rng=(1, 2)), normal(3, 4)) < 1e-6


@pytest.mark.parametrize("p", [-0.1, 1.0, 2, float("nan")])
def test_dropout_takes_a_probability(p):
    x = Tensor(normal(1, 1, 3, 2))
    with pytest.raises(ValueError, match="0 <= p < 1"):
        F.dropout(x, p, rng=1)
    with pytest.raises(ValueError, match="0 <= p < 1"):
        F.scaled_dot_product_attention(x, x, x, dropout_p=p, rng=1)


@pytest.mark.parametrize("start", [1, 3])
def test_a_part_of_the_batch_gets_its_part_of_the_mask(start):
    """No size is a multiple of the generator's 16, so that parts begin inside its blocks."""
    key = Key((3, 1))
    x = np.ones((5, 3, 7))
    whole = F.dropout(Tensor(x), 0.5, rng=key).data
    part = F.dropout(Tensor(x[start:]), 0.5, rng=key.part(start)).data
    np.testing.assert_array_equal(part, whole[start:])
    assert (whole[0] != whole[1]).any()


@pytest.mark.parametrize("start", [1, 3])
def test_a_part_of_the_batch_gets_its_part_of_the_attention_mask(start):
    key = Key((3, 1))
    q, k, v = normal(3, 5, 3, 7, 2)

    def attention(rows, key):
        tensors = [Tensor(a[rows]) for a in (q, k, v)]
        return F.scaled_dot_product_attention(*tensors, dropout_p=0.5, rng=key).data

    whole = attention(slice(None), key)
    np.testing.assert_allclose(attention(slice(start, None), key.part(start)), whole[start:])
    assert not np.allclose(whole, F.scaled_dot_product_attention(q, k, v).data)


def test_attention_without_rng_drops_nothing():
    q = Tensor(normal(2, 3, 5, 4))
    for causal in (True, False):
        plain = F.scaled_dot_product_attention(q, q, q, is_causal=causal)
        same = F.scaled_dot_product_attention(q, q, q, is_causal=causal, dropout_p=0.5)
        np.testing.assert_array_equal(plain.data, same.data)


def test_a_window_drops_only_with_an_rng_and_by_the_part():
    key = Key((3, 1))
    q, k, v = normal(3, 5, 3, 7, 2)

    def attention(rows, **options):
        return F.sliding_window_attention(q[rows], k[rows], v[rows], 3, 1, 0.5, **options).data

    whole = attention(slice(None), rng=key)
    np.testing.assert_allclose(attention(slice(2, None), rng=key.part(2)), whole[2:])
    plain = ops.sliding_window_attention(q, k, v, 3, 1)[0]
    np.testing.assert_array_equal(attention(slice(None)), plain)
    assert not np.allclose(whole, plain)
