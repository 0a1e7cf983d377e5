"""What each op computes, written the slow and obvious way, one number or row at a time."""

import math
import operator

import numpy as np

from tinygpt.ops.dropout import keep_mask
from tinygpt.ops.scaled_dot_product_attention import BLOCK


def each(f):
    """Apply a function of one number to every element."""
    return np.vectorize(f, otypes=["float64"])


def softmax(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def layer_norm(x, w, b=0.0, eps=1e-5):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(x.var(axis=-1, keepdims=True) + eps) * w + b


def rms_norm(x, w=1.0, eps=1e-5):
    return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps) * w


def linear(x, w, b=0.0):
    return np.einsum("...k,kn->...n", x, w) + b


def embedding(ids, w):
    return np.reshape([w[i] for i in ids.flat], (*ids.shape, w.shape[1]))


def dispatch(x, order):
    k = len(order) // len(x)
    return np.array([x[j // k] for j in order])


def combine(x, gates, order):
    y = np.zeros((len(gates), x.shape[1]))
    for j, (n, i) in zip(order, np.array([divmod(j, gates.shape[1]) for j in order]), strict=True):
        y[n] += gates[n, i] * x[list(order).index(j)]
    return y


def dropout(x, p, rng, first=0):
    return x * keep_mask(x.shape, p, rng, first) / (1 - p)


def rope(x, cos, sin):
    """Pairs as complex numbers, turned by a product with cos + i sin."""
    real, imaginary = np.split(x, 2, axis=-1)
    turned = (real + 1j * imaginary) * (cos + 1j * sin)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def cross_entropy(logits, targets, ignore_index=-1):
    rows = logits.reshape(-1, logits.shape[-1])
    counted = [i for i, target in enumerate(targets.flat) if target != ignore_index]
    surprises = [-math.log(softmax(rows[i])[targets.flat[i]]) for i in counted]
    return np.array(sum(surprises) / max(len(surprises), 1))


def linear_cross_entropy(x, w, targets, ignore_index=-1):
    return cross_entropy(x @ w.T, targets, ignore_index)


def scaled_dot_product_attention(
    q, k, v, attn_mask=True, is_causal=False, scale=None, dropout_p=0.0, rng=None, first=0
):
    """One query at a time: which keys may it see, how well do they match, what do they say."""
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    allowed = np.broadcast_to(attn_mask, (B, H, T, S))
    weights = np.ones((B, H, T, S))
    if dropout_p:
        weights = keep_mask((B, H, T, S), dropout_p, rng, first) / (1 - dropout_p)
    y = np.zeros((B, H, T, v.shape[-1]))
    for b, h, t in np.ndindex(B, H, T):
        g = h // (H // G)
        seen = [s for s in range(S) if allowed[b, h, t, s] and (s <= t + S - T or not is_causal)]
        if seen:
            scores = k[b, g, seen] @ q[b, h, t] * (1 / math.sqrt(D) if scale is None else scale)
            y[b, h, t] = softmax(scores) * weights[b, h, t, seen] @ v[b, g, seen]
    return y


def sliding_window_attention(
    q, k, v, window, sinks=0, scale=None, dropout_p=0.0, rng=None, first=0
):
    """A mask says who sees whom. (Blocks matter to dropout alone: each draws from its own rng.)"""
    (H, T), S = q.shape[1:3], k.shape[2]
    back = np.arange(T)[:, None] + S - T - np.arange(S)  # how far back a key stands
    in_sight = (back >= 0) & ((back < window) | (np.arange(S) < sinks))
    y = []
    for start in range(0, T, BLOCK):
        rows = slice(start, start + BLOCK)
        keys = np.flatnonzero(in_sight[rows].any(axis=0))
        mask = in_sight[rows, keys]
        dropout = dropout_p, rng and (*rng, start), first * H * mask.size
        arrays = q[:, :, rows], k[:, :, keys], v[:, :, keys], mask
        y.append(scaled_dot_product_attention(*arrays, False, scale, *dropout))
    return np.concatenate(y, axis=2)


DEFINITIONS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "negative": operator.neg,
    "power": lambda a, b: a**b,
    "exp": each(math.exp),
    "log": each(math.log),
    "tanh": each(math.tanh),
    "sigmoid": each(lambda x: 1 / (1 + math.exp(-x))),
    "relu": each(lambda x: max(x, 0)),
    "relu2": each(lambda x: max(x, 0) ** 2),
    "silu": each(lambda x: x / (1 + math.exp(-x))),
    "softcap": lambda x, cap: each(lambda z: cap * math.tanh(z / cap))(x),
    "gelu": each(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    "gelu_tanh": each(
        lambda x: x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2
    ),
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "reshape": np.reshape,
    "transpose": np.transpose,
    "index": lambda x, key: x[key],
    "concatenate": lambda *arrays, axis=0: np.concatenate(arrays, axis),
    "split": lambda x, sizes, axis=-1: np.split(x, np.cumsum(sizes)[:-1], axis),
    "where": np.where,
    "matmul": lambda a, b: np.einsum("...mk,...kn->...mn", a, b),
    "linear": linear,
    "embedding": embedding,
    "softmax": softmax,
    "log_softmax": lambda x, axis=-1: np.log(softmax(x, axis)),
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "add_layer_norm": lambda x, h, *rest, **options: (x + h, layer_norm(x + h, *rest, **options)),
    "add_rms_norm": lambda x, h, *rest, **options: (x + h, rms_norm(x + h, *rest, **options)),
    "dispatch": dispatch,
    "combine": combine,
    "dropout": dropout,
    "rope": rope,
    "cross_entropy": cross_entropy,
    "linear_cross_entropy": linear_cross_entropy,
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "sliding_window_attention": sliding_window_attention,
}
