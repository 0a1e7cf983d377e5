"""Attention: kernels in cuda/attention.cu, which never store the matrix of weights."""

from __future__ import annotations

import math

import numpy as np

from .. import ops
from .dropout import random_arguments
from .fallback import by_the_op
from .launch import address, aligned, ceil, contiguous, empty, launch, shared_memory, stored
from .precision import for_products

HEAD_SIZES = (32, 64, 128)
ROWS, THREADS = 64, 128  # of a block, as in the kernels
MOST_HEADS = 65535  # the blocks that CUDA starts along the second axis of a grid


def scaled_dot_product_attention(
    q, k, v, attn_mask=None, is_causal=False, scale=None, dropout_p=0.0, rng=None, first=0
):
    """The twin of ops.scaled_dot_product_attention. Saves q, k, v, y and a number per query.

    Masks, values of another width than keys, and what does not fit the GPU are left to the op.
    """
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    given, (q, k, v) = (q, k, v), map(for_products, (q, k, v))
    columns = 64 if D < 128 else 32
    shared = (ROWS + 4 * columns) * D * q.itemsize
    shared_backward = (2 * ROWS + 4 * columns) * D * q.itemsize
    fits = shared_backward <= shared_memory(q) and B * H <= MOST_HEADS
    plain = attn_mask is None and v.shape[3] == D
    if not (plain and D in HEAD_SIZES and stored(q, k, v) and fits):
        options = {"is_causal": is_causal, "scale": scale}
        options |= {"dropout_p": dropout_p, "rng": rng, "first": first}
        return by_the_op(ops.scaled_dot_product_attention, (*given, attn_mask), options)
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    c = scale * math.log2(math.e)  # the kernels work with powers of 2
    random = random_arguments(dropout_p, rng, q) if dropout_p else (*NO_DROPOUT, 1.0)
    random = (np.uint64(first), *random)
    dtypes = [x.dtype for x in given]
    q, k, v = map(_readable, (q, k, v))
    if k.strides != v.strides:
        k, v = k.copy(order="C"), v.copy(order="C")
    sizes = (H, G, T, S, *_strides(q), *_strides(k), int(is_causal))
    queries, keys = (ceil(T, ROWS), B * H), (ceil(S, ROWS), B * G)

    y = empty(q, (B, T, H, D))
    log_sums = empty(q, (B, H, T), "float32")
    launch(
        "attention.cu", "attention_forward", q, queries, (THREADS,),
        (y, log_sums, q, k, v, *sizes, c, *random),
        shared=shared, D=D,
    )  # fmt: skip

    def backward(dy):
        dy = contiguous(dy.transpose(0, 2, 1, 3).astype(y.dtype, copy=False))  # (B, T, H, D)
        delta = empty(log_sums)
        if S == T:  # side by side, as a projection leaves q, k and v: see split()
            packed = empty(q, (B, T, H + 2 * G, D))
            dq, dk, dv = packed[:, :, :H], packed[:, :, H : H + G], packed[:, :, H + G :]
        else:
            dq = empty(y)
            dk, dv = (empty(q, (B, S, G, D)) for _ in range(2))
        step_q, step_k = (g.strides[1] // g.itemsize for g in (dq, dk))
        inputs = (q, k, v, dy, log_sums, delta, *sizes, scale, c, *random)
        launch(
            "attention.cu", "attention_backward_q", q, queries, (THREADS,),
            (dq, step_q, y, *inputs), shared=shared_backward, D=D,
        )  # fmt: skip
        launch(
            "attention.cu", "attention_backward_kv", q, keys, (THREADS,),
            (dk, dv, step_k, *inputs), shared=shared_backward, D=D,
        )  # fmt: skip
        gradients = zip((dq, dk, dv), dtypes, strict=True)
        return tuple(g.transpose(0, 2, 1, 3).astype(d, copy=False) for g, d in gradients)

    return y.transpose(0, 2, 1, 3), backward


def split(x, sizes, axis=-1):
    """The twin of ops.split. Nothing is copied on the way back where the gradients of the parts lie
    side by side already, in an array that is all of dx."""
    parts, backward_of_op = ops.split(x, sizes, axis)
    strides = [part.strides for part in parts]
    places = [address(part) - address(parts[0]) for part in parts]
    shape, dtype, flat = x.shape, x.dtype, x.flags.c_contiguous

    def backward(*dys):
        whole = dys[0].base
        if flat and whole is not None and (whole.shape, whole.dtype) == (shape, dtype):
            found = [address(dy) - address(whole) for dy in dys if dy.base is whole]
            if found == places and [dy.strides for dy in dys] == strides:
                return (whole,)
        return backward_of_op(*dys)

    return parts, backward


def sliding_window_attention(q, k, v, **options):
    """The op, until it has kernels of its own."""
    return by_the_op(ops.sliding_window_attention, (q, k, v), options)


NO_DROPOUT = (None, np.uint32(0))


def _readable(x):
    """x (..., D), or a copy where its rows are not D numbers side by side, 16 bytes at a time."""
    apart = x.strides[-1] != x.itemsize or any(step % 16 for step in x.strides[:-1])
    return x.copy(order="C") if apart or not aligned(x) else x


def _strides(x):
    """How far batches, heads and times lie apart, in numbers."""
    return tuple(step // x.itemsize for step in x.strides[:-1])
