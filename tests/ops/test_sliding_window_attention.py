"""Attention with a window: it is attention with a mask, for less work and memory."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_checks import assert_close, check_against_torch, check_op, examples, run, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw
from tinygpt.ops.scaled_dot_product_attention import BLOCK

attention = ops.scaled_dot_product_attention
sliding = ops.sliding_window_attention


def qkv(B=2, H=3, T=5, D=4, S=None, G=None, E=None):
    d, S, G = Draw(0), S or T, G or H
    return d(B, H, T, D), d(B, G, S, D), d(B, G, S, E or D)


def outputs(f, *arrays):
    """y and the gradients, for a random dy."""
    (y,), _, gradients = run(f, *arrays)
    return y, *gradients


def mask(T, S, window, sinks=0):
    """(T, S): who sees whom."""
    back = np.arange(T)[:, None] + S - T - np.arange(S)  # how far back a key stands
    return (back >= 0) & ((back < window) | (np.arange(S) < sinks))


@examples
@given(st.integers(1, 7), st.integers(0, 3), st.integers(1, 4), st.integers(0, 3))
def test_gradient(T, extra, window, sinks):
    f = functools.partial(sliding, window=window, sinks=sinks)
    lonely = T + extra == 1 or (window == 1 and sinks == 0)  # one key is taken as it is
    check_op(f, *qkv(H=4, G=2, T=T, S=T + extra), allow_zero=("q", "k") if lonely else ())


@examples
@given(st.integers(0, 99))
def test_gradient_with_dropout(seed):
    f = functools.partial(sliding, window=3, sinks=1, dropout_p=0.4, rng=(seed,), first=seed)
    check_op(f, *qkv(T=6))


def test_by_hand():
    k = np.array([0, 7, 0, math.log(3)]).reshape(1, 1, 4, 1)
    v = np.array([10.0, 90, 20, 30]).reshape(1, 1, 4, 1)
    q = np.ones_like(k)
    last = [sliding(q, k, v, window=2, sinks=sinks)[0][0, 0, 3, 0] for sinks in (0, 1)]
    # it sees keys 2 and 3, with weights 1/4 and 3/4, and key 0 as a sink: 1/5, 1/5, 3/5
    np.testing.assert_allclose(last, [(20 + 3 * 30) / 4, (10 + 20 + 3 * 30) / 5], rtol=1e-15)


@pytest.mark.parametrize("sinks", [0, 2])
def test_torch(sinks):
    check_against_torch(
        functools.partial(sliding, window=3, sinks=sinks),
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=torch.tensor(mask(7, 9, 3, sinks)), enable_gqa=True
        ),
        *qkv(H=6, G=2, T=7, S=9),
    )


@pytest.mark.parametrize("T", [1, 5, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize("extra", [0, 3, BLOCK + 4])
@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (4, 0), (4, 2), (BLOCK + 7, 1), (999, 2)])
def test_a_window_is_a_mask(T, extra, window, sinks):
    arrays = qkv(B=1, H=2, T=T, D=3, S=T + extra, E=2)
    found = outputs(functools.partial(sliding, window=window, sinks=sinks), *arrays)
    masked = functools.partial(attention, attn_mask=mask(T, T + extra, window, sinks))
    for actual, expected in zip(found, outputs(masked, *arrays), strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize("sinks", [0, 3])
def test_what_it_saves_does_not_grow_with_the_square_of_the_text(sinks):
    f = functools.partial(sliding, window=10, sinks=sinks)
    one, two, three = (saved_bytes(f, *qkv(B=1, H=1, T=n * BLOCK, D=2)) for n in (10, 20, 30))
    assert three - two == two - one
    causal = functools.partial(attention, is_causal=True)
    assert saved_bytes(causal, *qkv(B=1, H=1, T=10 * BLOCK, D=2)) > 2 * one


def test_a_part_of_a_batch_drops_what_it_drops_in_the_whole():
    q, k, v = qkv(B=4, T=BLOCK + 3)
    f = functools.partial(sliding, window=5, sinks=2, dropout_p=0.5, rng=(1, 2))
    whole = f(q, k, v)[0]
    assert_close(f(q[3:], k[3:], v[3:], first=3)[0], whole[3:], 1e-15)
    assert np.abs(f(q[3:], k[3:], v[3:])[0] - whole[3:]).max() > 0.1


def test_each_block_drops_by_itself():
    q, k, v = (np.ones((1, 1, 4 * BLOCK, 1)) for _ in range(3))
    y = sliding(q, k, v, window=BLOCK, dropout_p=0.5, rng=(1,))[0][0, 0, BLOCK:, 0]
    assert len(np.unique(y.reshape(3, BLOCK), axis=0)) == 3
    assert abs(y.mean() - 1) < 0.05
