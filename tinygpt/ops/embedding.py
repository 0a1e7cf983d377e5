"""Embedding: rows of a table, looked up by number."""

import numpy as np


def embedding(ids, w):
    """y_i = w[ids_i].

    ids (...) ints in 0 .. V-1, w (V, C) -> y (..., C).   Saves ids and the shape of w.

    Row v was copied to every place i that asked for it, so
        dw_v = sum of dy_i over the places i with ids_i = v
    which is a product with the one-hot matrix: dw = hot @ dy, hot_vi = 1 where ids_i = v. The
    matrix gets rows only for those v that occur, so it is never larger than (places, places).
    `in_parts`: dw as (where, numbers) pairs, here one: the rows that are not 0.
    """
    shape = w.shape

    def backward(dy, in_parts=False):
        dy = dy.reshape(-1, shape[1])  # (N, C)
        used, row = np.unique(ids, return_inverse=True)
        hot = np.zeros((len(used), len(dy)), dy.dtype, like=dy)
        hot[row.reshape(-1), np.arange(len(dy), like=dy)] = 1
        if in_parts:
            return None, iter([(used, hot @ dy)])
        dw = np.zeros(shape, dy.dtype, like=dy)
        dw[used] = hot @ dy
        return None, dw

    return w[ids], backward
