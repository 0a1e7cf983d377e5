"""Every op as a function of Tensors, under the names of torch.nn.functional.

Inputs are Tensors or arrays (constants); options are those of the op of the same name in
tinygpt.ops, where each is derived.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from . import ops
from .rng import Key, Rng, as_key
from .tensor import Tensor, apply


def _lift(op: Callable) -> Callable[..., Tensor]:
    @functools.wraps(op)
    def function(*inputs, **options):
        return apply(op, *inputs, **options)

    return function


def _lift_several(op: Callable) -> Callable[..., tuple[Tensor, ...]]:
    """The same, of an op with several results."""
    return _lift(op)  # type: ignore[return-value]


add = _lift(ops.add)
subtract = _lift(ops.subtract)
multiply = _lift(ops.multiply)
divide = _lift(ops.divide)
negative = _lift(ops.negative)
power = _lift(ops.power)

exp = _lift(ops.exp)
log = _lift(ops.log)
tanh = _lift(ops.tanh)
sigmoid = _lift(ops.sigmoid)
relu = _lift(ops.relu)
relu2 = _lift(ops.relu2)
silu = _lift(ops.silu)
softcap = _lift(ops.softcap)
gelu = _lift(ops.gelu)
gelu_tanh = _lift(ops.gelu_tanh)

sum = _lift(ops.sum)
mean = _lift(ops.mean)
max = _lift(ops.max)

reshape = _lift(ops.reshape)
transpose = _lift(ops.transpose)
index = _lift(ops.index)
split = _lift_several(ops.split)
where = _lift(ops.where)

matmul = _lift(ops.matmul)
linear = _lift(ops.linear)
embedding = _lift(ops.embedding)
dispatch = _lift(ops.dispatch)
combine = _lift(ops.combine)
layer_norm = _lift(ops.layer_norm)
rms_norm = _lift(ops.rms_norm)
add_layer_norm = _lift_several(ops.add_layer_norm)
add_rms_norm = _lift_several(ops.add_rms_norm)
rope = _lift(ops.rope)
softmax = _lift(ops.softmax)
log_softmax = _lift(ops.log_softmax)
cross_entropy = _lift(ops.cross_entropy)
linear_cross_entropy = _lift(ops.linear_cross_entropy)


def concatenate(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The tensors one after the other along `axis`."""
    return apply(ops.concatenate, *tensors, axis=axis)


def dropout(x: Tensor, p: float, rng: Rng = None) -> Tensor:
    """x with a fraction p set to 0 and the rest scaled up; x itself where no rng is given.

    The mask of a row depends on rng and on the row's place in the whole batch (see tinygpt.rng).
    """
    key = _dropout_key(p, rng)
    if key is None:
        return x
    return apply(ops.dropout, x, p=p, rng=key.words, first=_first(x, key))


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    rng: Rng = None,
) -> Tensor:
    """q (B, H, T, D), k (B, G, S, D) and v (B, G, S, E), G dividing H -> attention, (B, H, T, E).

    attn_mask: boolean, True means attend. Weights are dropped only where an rng is given.
    """
    options: dict[str, Any] = {"is_causal": is_causal, "scale": scale}
    key = _dropout_key(dropout_p, rng)
    if key is not None:
        weights_per_row = q.shape[1] * q.shape[2] * k.shape[2]
        options |= {"dropout_p": dropout_p, "rng": key.words, "first": key.row * weights_per_row}
    return apply(ops.scaled_dot_product_attention, q, k, v, attn_mask=attn_mask, **options)


def sliding_window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    window: int,
    sinks: int = 0,
    dropout_p: float = 0.0,
    scale: float | None = None,
    rng: Rng = None,
) -> Tensor:
    """Causal attention over the last `window` keys and the first `sinks`; T is at most S.

    Shapes are those of attention. Weights are dropped only where an rng is given.
    """
    options: dict[str, Any] = {"window": window, "sinks": sinks, "scale": scale}
    key = _dropout_key(dropout_p, rng)
    if key is not None:
        options |= {"dropout_p": dropout_p, "rng": key.words, "first": key.row}
    return apply(ops.sliding_window_attention, q, k, v, **options)


def _dropout_key(p: float, rng: Rng) -> Key | None:
    """The key to draw a mask with, or None where nothing is to be dropped."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout takes a probability p with 0 <= p < 1, not {p}")
    return as_key(rng) if p > 0 else None


def _first(x: Tensor, key: Key) -> int:
    """The number of x's first element in the whole batch; x holds its rows from key.row."""
    return key.row * (x.size // len(x))
