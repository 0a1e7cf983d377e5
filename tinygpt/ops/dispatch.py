"""Dispatch and combine: rows to those who compute them, and what they made of them back."""

import numpy as np


def dispatch(x, order):
    """y_j = x_n for order_j = n k + i: every row of x, k times, in the given order.

    x (N, C), order a permutation of 0 .. N k - 1, in which n k + i is copy i of row n
    -> y (N k, C).   Saves order.

    Row n was copied to k places, and gets the sum of their gradients:
        dx_n = sum_i dy_j, j the place of n k + i
    """
    N, C = x.shape
    k = len(order) // N

    def backward(dy):
        copies = np.empty_like(dy)  # (N k, C)
        copies[order] = dy  # each once, back in the order of x
        return copies.reshape(N, k, C).sum(axis=1), None

    return x[order // k], backward


def combine(x, gates, order):
    """y_n = sum_i gates_ni x_j, j the place of n k + i in order: what was dispatched, weighted.

    x (N k, C), gates (N, k), order as in `dispatch` -> y (N, C).   Saves x, gates and order.

    dx_j = gates_ni dy_n        dgates_ni = x_j . dy_n
    With gates of 1 this is the transpose of dispatch, and dispatch of this.
    Shazeer et al. 2017, arXiv:1701.06538, eq. 1; the names: Lepikhin et al. 2020, arXiv:2006.16668.
    """
    N, k = gates.shape
    copies = np.empty_like(x)
    copies[order] = x
    copies = copies.reshape(N, k, -1)

    def backward(dy):
        dcopies = gates[:, :, None] * dy[:, None, :]  # (N, k, C)
        dgates = np.einsum("nkc,nc->nk", copies, dy)
        return dcopies.reshape(N * k, -1)[order], dgates, None

    return np.einsum("nk,nkc->nc", gates, copies), backward
