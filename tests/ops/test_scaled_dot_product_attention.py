"""Attention: values, gradients, what may be seen, heads that share keys, blocks of queries."""

import functools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_checks import (
    assert_close,
    assert_same,
    check_against_torch,
    check_op,
    check_value,
    examples,
    run,
    saved_bytes,
)

from tinygpt import ops
from tinygpt.cases import Draw
from tinygpt.ops.scaled_dot_product_attention import BLOCK

attention = ops.scaled_dot_product_attention
causal = functools.partial(attention, is_causal=True)
sizes = st.integers(1, 4)


def qkv(B=2, H=3, T=5, D=4, S=None, G=None, seed=0):
    d, S, G = Draw(seed), S or T, G or H
    return d(B, H, T, D), d(B, G, S, D), d(B, G, S, D)


def outputs(f, *arrays):
    """y and the gradients, for a random dy."""
    (y,), _, gradients = run(f, *arrays)
    return y, *gradients


@examples
@given(sizes, st.integers(1, 2), st.integers(1, 2), sizes, sizes, sizes, st.booleans())
def test_gradient(B, G, R, T, S, D, is_causal):
    arrays = qkv(B, G * R, T, D, S, G)
    zero = ("q", "k") if S == 1 else ()  # a lone key gets weight 1 whatever it says
    check_op(functools.partial(attention, is_causal=is_causal), *arrays, allow_zero=zero)


@examples
@given(st.integers(0, 99))
def test_gradient_with_a_mask_and_dropout(seed):
    mask = Draw(seed).mask(2, 1, 5, 7)
    f = functools.partial(attention, attn_mask=mask, dropout_p=0.4, rng=seed, first=seed)
    check_op(f, *qkv(S=7))


def test_by_hand():
    q = np.array([[[[0.0], [1.0]]]])
    k, v = np.array([[[[0.0], [math.log(3)]]]]), np.array([[[[10.0], [20.0]]]])
    y, backward = attention(q, k, v)  # D = 1, scores 0 0 and 0 log 3: weights 1/2 1/2, 1/4 3/4
    np.testing.assert_allclose(y[0, 0], [[15], [17.5]], rtol=1e-15)
    dq, dk, dv = backward(np.array([[[[0.0], [16.0]]]]))
    np.testing.assert_allclose(dv[0, 0], [[4], [12]], rtol=1e-15)
    # dp = 160 320, delta = 280: ds = 1/4 (-120), 3/4 (40)
    np.testing.assert_allclose(dk[0, 0], [[-30], [30]], rtol=1e-14)
    np.testing.assert_allclose(dq[0, 0], [[0], [30 * math.log(3)]], rtol=1e-14)


def test_the_scale_is_one_over_the_root_of_d():
    q, k, v = qkv(D=16)
    assert_close(attention(q, k, v)[0], attention(q, k, v, scale=1 / 4)[0], 0)
    assert_close(attention(q, k, v)[0], attention(q / 4, k, v, scale=1)[0], 1e-15)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}])
def test_torch(options):
    check_against_torch(
        functools.partial(attention, **options),
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, **options),
        *qkv(),
    )


def test_values_may_have_a_width_of_their_own():
    q, k, _ = qkv()
    v = Draw(1)(2, 3, 5, 7)
    check_op(causal, q, k, v)
    check_against_torch(
        causal,
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True
        ),
        q, k, v,
    )  # fmt: skip


def test_torch_with_a_mask_and_grouped_heads():
    mask = Draw(3).mask(2, 1, 5, 7)
    mask[..., 0] = True  # torch: nan where nothing is seen
    check_against_torch(
        functools.partial(attention, attn_mask=mask),
        lambda torch, q, k, v: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=torch.tensor(mask), enable_gqa=True
        ),
        *qkv(H=6, S=7, G=2),
    )


@pytest.mark.parametrize("is_causal", [False, True])
def test_saves(is_causal):
    B, H, T, D = 2, 3, BLOCK + 6, 4
    q, k, v = qkv(B, H, T, D)
    scores = BLOCK * BLOCK + 6 * T if is_causal else T * T
    # q, k, v, y; p; a column of ones
    expected = 8 * (4 * q.size + B * H * scores + T)
    assert saved_bytes(functools.partial(attention, is_causal=is_causal), q, k, v) == expected


# ---- who sees whom ------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [5, BLOCK + 1])
def test_a_future_token_never_changes_an_earlier_one_bit_for_bit(T):
    q, k, v = qkv(T=T)
    y, backward = causal(q, k, v)
    dy = np.cos(y)
    dy[:, :, 3:] = 0  # only the first three queries have a say
    gradients = backward(dy)
    for t in range(3, T, 7):
        later = [np.where(np.arange(T)[:, None] >= t, 9 * a, a) for a in (q, k, v)]
        other_y, other_backward = causal(*later)
        assert_same(other_y[:, :, :t], y[:, :, :t])
        for gradient, other in zip(gradients, other_backward(dy), strict=True):
            assert_same(other[:, :, :3], gradient[:, :, :3])
            assert not other[:, :, 3:].any()


@pytest.mark.parametrize(("T", "S"), [(1, 6), (3, 8), (BLOCK, BLOCK + 9), (5, 2 * BLOCK)])
def test_with_fewer_queries_than_keys_the_last_query_sees_the_last_key(T, S):
    q, k, v = qkv(T=S)
    assert_close(causal(q[:, :, -T:], k, v)[0], causal(q, k, v)[0][:, :, -T:])


def test_with_more_queries_than_keys_the_first_see_nothing():
    q, k, v = qkv(T=7, S=3)
    y, dq, dk, dv = outputs(causal, q, k, v)
    assert not y[:, :, :4].any()
    assert not dq[:, :, :4].any()
    assert_close(y[:, :, 4:], causal(q[:, :, 4:], k, v)[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_query_that_sees_nothing_gives_zeros_and_finite_gradients(dtype):
    mask = np.ones((5, 7), bool)
    mask[2] = False
    arrays = [a.astype(dtype) for a in qkv(S=7)]
    y, dq, dk, dv = outputs(functools.partial(attention, attn_mask=mask), *arrays)
    assert not y[:, :, 2].any()
    assert not dq[:, :, 2].any()
    assert y[:, :, [0, 1, 3, 4]].all()
    nothing = outputs(functools.partial(attention, attn_mask=np.zeros((5, 7), bool)), *arrays)
    for array in (y, dq, dk, dv, *nothing):
        assert np.isfinite(array).all()
    assert not np.any([array.any() for array in nothing])


def test_true_means_attend():
    q, k, v = qkv()
    only_key_3 = np.zeros((5, 5), bool)
    only_key_3[:, 3] = True
    expected = np.broadcast_to(v[:, :, 3:4], v.shape)
    assert_close(attention(q, k, v, attn_mask=only_key_3)[0], expected, 1e-15)
    assert_close(attention(q, k, v, attn_mask=np.ones((5, 5), bool))[0], attention(q, k, v)[0], 0)


@pytest.mark.parametrize("T", [5, BLOCK + 1])
def test_causal_is_the_mask_of_a_lower_triangle(T):
    arrays = qkv(T=T, S=T + 3)
    triangle = np.tri(T, T + 3, 3, dtype=bool)
    masked = outputs(functools.partial(attention, attn_mask=triangle), *arrays)
    for actual, expected in zip(outputs(causal, *arrays), masked, strict=True):
        assert_close(actual, expected)
    both = outputs(functools.partial(causal, attn_mask=triangle), *arrays)
    for actual, expected in zip(both, masked, strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize("shape", [(5, 7), (1, 7), (5, 1), (3, 5, 7), (2, 1, 5, 7), (2, 3, 1, 7)])
def test_masks_broadcast(shape):
    mask, arrays = Draw(1).mask(*shape), qkv(S=7)
    whole = np.broadcast_to(mask, (2, 3, 5, 7))
    assert_same(attention(*arrays, attn_mask=mask)[0], attention(*arrays, attn_mask=whole)[0])


# ---- heads and blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize(("H", "G"), [(6, 1), (6, 2), (6, 3), (6, 6)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_grouped_heads_are_repeated_heads(H, G, is_causal):
    f, R = functools.partial(attention, is_causal=is_causal), H // G
    q, k, v = qkv(H=H, G=G, T=BLOCK + 2)
    y, dq, dk, dv = outputs(f, q, k, v)
    repeated = outputs(f, q, k.repeat(R, axis=1), v.repeat(R, axis=1))
    assert_close(y, repeated[0])
    assert_close(dq, repeated[1])
    for gradient, of_each_head in ((dk, repeated[2]), (dv, repeated[3])):
        assert_close(gradient, of_each_head.reshape(2, G, R, BLOCK + 2, 4).sum(axis=2))


@pytest.mark.parametrize("T", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 2])
@pytest.mark.parametrize("is_causal", [False, True])
def test_blocks_do_not_matter(monkeypatch, T, is_causal):
    q, k, v = qkv(B=1, H=2, T=T, D=3, S=T + 5)
    f = functools.partial(attention, is_causal=is_causal, dropout_p=0.2, rng=1)
    blocks = outputs(f, q, k, v)
    monkeypatch.setitem(attention.__globals__, "BLOCK", 4 * BLOCK)
    for actual, expected in zip(blocks, outputs(f, q, k, v), strict=True):
        assert_close(actual, expected)
    check_value(f, q, k, v)


def test_heads_and_batch_entries_do_not_see_each_other():
    q, k, v = qkv()
    for b, h in np.ndindex(2, 3):
        alone = attention(*(a[b : b + 1, h : h + 1] for a in (q, k, v)))[0]
        assert_close(attention(q, k, v)[0][b, h], alone[0, 0], 1e-15)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scores_far_apart_stay_finite(dtype):
    arrays = [(100 * a).astype(dtype) for a in qkv()]
    for array in outputs(causal, *arrays):
        assert np.isfinite(array).all()


# ---- dropout -----------------------------------------------------------------------------------


def test_a_part_of_a_batch_drops_what_it_drops_in_the_whole():
    q, k, v = qkv(B=4, S=7)
    f = functools.partial(attention, dropout_p=0.5, rng=(1, 2))
    part = f(q[3:], k[3:], v[3:], first=3 * 3 * 5 * 7)[0]
    assert_close(part, f(q, k, v)[0][3:], 1e-15)
    assert np.abs(f(q[3:], k[3:], v[3:])[0] - part).max() > 0.1


def test_dropped_weights_keep_their_mean():
    q, k, v = qkv(B=1, H=1, T=1000, D=2, S=200)
    ones = np.ones_like(v)  # y is then the sum of the weights
    y, _ = attention(0 * q, k, ones, dropout_p=0.3, rng=1)
    assert abs(y.mean() - 1) < 0.01
    assert y.std() == pytest.approx(math.sqrt(0.3 / 0.7 / 200), rel=0.1)
