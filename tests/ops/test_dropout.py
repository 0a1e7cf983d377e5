"""Dropout: forget some numbers at random while training."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_checks import assert_same, check_against_torch, check_op, examples, matrices, saved_bytes

from tinygpt import Tensor, ops
from tinygpt import functional as F
from tinygpt.cases import Draw
from tinygpt.ops.dropout import keep_mask
from tinygpt.rng import Key


@examples
@given(matrices, st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 2**70))
def test_gradient(shape, p, first):
    x = Draw(0)(*shape)
    nothing_kept = not keep_mask(shape, p, 7, first).any()
    f = functools.partial(ops.dropout, p=p, rng=7, first=first)
    check_op(f, x, allow_zero=("x",) if nothing_kept else ())


def test_by_hand():
    x, keep = np.array([1.0, 2.0, 3.0]), keep_mask((3,), 0.75, 5)
    y, backward = ops.dropout(x, 0.75, 5)
    np.testing.assert_array_equal(y, np.where(keep, 4 * x, 0))
    np.testing.assert_array_equal(backward(np.ones(3))[0], np.where(keep, 4, 0))


def test_torch_given_the_mask():
    keep = keep_mask((3, 4), 0.3, (1, 2))
    check_against_torch(
        functools.partial(ops.dropout, p=0.3, rng=(1, 2)),
        lambda torch, x: x * torch.tensor(keep) / 0.7,
        Draw(0)(3, 4),
    )


def test_saves_a_byte_for_each_element():
    x = Draw(0)(30, 40)
    assert saved_bytes(functools.partial(ops.dropout, p=0.3, rng=1), x) == x.size


def test_p_0_keeps_everything():
    x = Draw(0)(3, 4)
    assert_same(ops.dropout(x, 0.0, 1)[0], x)
    assert keep_mask((10**6,), 0.0, 1).all()


@examples
@given(st.integers(0, 10**6), st.integers(0, 100), st.integers(1, 60))
def test_a_part_draws_what_it_draws_in_the_whole(first, start, n):
    whole = keep_mask((200,), 0.5, (3, 4), first)
    assert_same(keep_mask((n,), 0.5, (3, 4), first + start), whole[start : start + n])


@pytest.mark.parametrize("start", [0, 1, 15, 16, 17, 35, 64])
def test_a_part_of_a_batch_drops_what_it_drops_in_the_whole(start):
    x = Draw(0)(70, 7)
    whole, _ = ops.dropout(x, 0.4, 9)
    part, _ = ops.dropout(x[start:], 0.4, 9, first=start * 7)
    assert_same(part, whole[start:])


@pytest.mark.parametrize("start", [0, 1, 3])
def test_so_it_does_through_a_key_that_knows_the_row(start):
    x, key = Draw(0)(5, 3, 7), Key((1, 2))
    whole = F.dropout(Tensor(x), 0.5, key)
    part = F.dropout(Tensor(x[start:]), 0.5, key.part(start))
    assert_same(part.data, whole.data[start:])


def test_p_is_rounded():
    assert_same(keep_mask((10**6,), 0.1, 1), keep_mask((10**6,), 6554 / 65536, 1))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_about_one_minus_p_are_kept_and_the_mean_stays(p):
    n = 200_000
    deviation = (p * (1 - p) / n) ** 0.5
    for rng in range(5):
        assert abs(keep_mask((n,), p, rng).mean() - (1 - p)) < 5 * deviation
    y, _ = ops.dropout(np.ones(n), p, 1)
    assert abs(y.mean() - 1) < 5 * deviation / (1 - p)


def test_masks_of_different_rngs_have_nothing_in_common():
    masks = [keep_mask((10_000,), 0.5, rng) for rng in (0, 1, (0, 1), (1, 2), (2, 1), (0, 0, 1))]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert abs((one == other).mean() - 0.5) < 0.03


def test_neighbours_have_nothing_in_common():
    mask = keep_mask((100_000,), 0.5, 3)
    for distance in (1, 2, 4, 15, 16, 17, 64):
        assert abs((mask[distance:] == mask[:-distance]).mean() - 0.5) < 0.01


def test_the_mask_is_the_same_on_every_machine_and_for_ever():
    drawn = keep_mask((32,), 0.5, (1, 2)).astype(int)
    assert "".join(map(str, drawn)) == "01111100101101000011110111000110"
