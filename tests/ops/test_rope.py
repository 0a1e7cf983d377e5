"""Rotary position embedding."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_checks import assert_close, check_against_torch, check_op, examples, saved_bytes

from tinygpt import ops
from tinygpt.cases import Draw
from tinygpt.ops.rope import rope_tables

leading = hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)


def turn(x, first_position=0):
    cos, sin = rope_tables(first_position + np.arange(x.shape[-2]), x.shape[-1], dtype="float64")
    return ops.rope(x, cos, sin)[0]


@examples
@given(leading, st.integers(1, 5), st.integers(1, 3))
def test_gradient(leading, T, half):
    cos, sin = rope_tables(np.arange(T), 2 * half, dtype="float64")
    check_op(functools.partial(ops.rope, cos=cos, sin=sin), Draw(0)(*leading, T, 2 * half))


def test_by_hand_a_quarter_turn():
    x, cos, sin = np.array([[3.0, 4.0]]), np.array([[0.0]]), np.array([[1.0]])
    y, backward = ops.rope(x, cos, sin)
    np.testing.assert_array_equal(y, [[-4, 3]])
    dx, dcos, dsin = backward(y)
    np.testing.assert_array_equal(dx, x)  # turned back
    assert dcos is None
    assert dsin is None


def test_torch():
    cos, sin = rope_tables(np.arange(5), 6, dtype="float64")

    def turn_pairs(torch, x):
        pairs = torch.complex(x[..., :3], x[..., 3:]) * torch.complex(
            *map(torch.tensor, (cos, sin))
        )
        return torch.cat([pairs.real, pairs.imag], -1)

    check_against_torch(
        functools.partial(ops.rope, cos=cos, sin=sin), turn_pairs, Draw(0)(2, 3, 5, 6)
    )


def test_saves_cos_and_sin():
    cos, sin = rope_tables(np.arange(5), 6)
    x = Draw(0)(2, 3, 5, 6)
    assert saved_bytes(functools.partial(ops.rope, cos=cos, sin=sin), x) == cos.nbytes + sin.nbytes


def test_the_length_of_a_vector_stays_and_position_0_is_not_turned():
    x = Draw(0)(5, 8)
    assert_close(np.linalg.norm(turn(x), axis=-1), np.linalg.norm(x, axis=-1), 1e-15)
    np.testing.assert_array_equal(turn(x)[0], x[0])


@pytest.mark.parametrize("shift", [1, 7, 1000])
def test_products_depend_only_on_how_far_apart_two_positions_are(shift):
    q, k = Draw(0)(6, 8), Draw(1)(6, 8)
    assert_close(turn(q, shift) @ turn(k, shift).T, turn(q) @ turn(k).T, 1e-12)
    assert np.abs(turn(q, shift) @ turn(k).T - turn(q) @ turn(k).T).max() > 0.1


def test_tables_by_hand():
    cos, sin = rope_tables([0, 3], 4, base=100.0, dtype="float64")  # frequencies 1 and 1/10
    np.testing.assert_allclose(cos, np.cos([[0, 0], [3, 0.3]]), rtol=1e-15)
    np.testing.assert_allclose(sin, np.sin([[0, 0], [3, 0.3]]), rtol=1e-15)


def test_tables_are_exact_at_far_positions():
    cos, _ = rope_tables([10**8 + 1], 2)  # a float32 cannot tell it from 10**8
    assert cos.dtype == "float32"
    assert abs(cos[0, 0] - np.cos(10**8 + 1.0)) < 1e-7
