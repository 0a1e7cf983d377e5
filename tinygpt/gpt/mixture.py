"""A mixture of experts: many feed-forward layers, of which each token takes a few."""

from __future__ import annotations

import numpy as np

from .. import functional as F
from ..backend import to_numpy
from ..nn import Linear, Module
from ..rng import Key
from ..tensor import Tensor
from .config import GPTConfig
from .feed_forward import MLP


class Mixture(Module):
    """The feed-forward half of a block, with a router in front of n_expert MLPs.

    The router gives a token a score for each expert. The k = n_expert_per_token experts with the
    highest compute it, and their results are added up, weighted by the softmax of these k scores
    (which is the softmax of all, cut down to k and made to add up to 1 again). Which experts are
    taken has no gradient; how much each counts has, and through it the router learns.
    Jiang et al. 2024, "Mixtral of Experts", arXiv:2401.04088, section 2.1.

    Tokens are sorted by expert, and each expert computes all of its own in one go. None is dropped,
    however many want the same expert.

    To keep all experts busy, the loss gets balance_weight times the mean over the layers of

        imbalance = n_expert * sum_e f_e P_e    f_e: how many of the N tokens take expert e, over N
                                                P_e: the mean over N of softmax(all scores)_e

    which is k when f or P are even. f is a count, without gradient; P carries it. Fedus et al.
    2021, "Switch Transformers", arXiv:2101.03961, eq. 4 to 6. (transformers takes f and P over the
    tokens of all layers together; with one layer that is the same.)

    f and P are means over a batch, and imbalance is a product of the two: cut into micro-batches,
    it is not what it was. accumulate_gradients adds up the imbalance of each piece, in proportion
    to its targets, and so asks for balance within every piece: a little more than in the batch.
    """

    def __init__(self, config: GPTConfig, rng, std: float, dtype):
        assert config.n_expert is not None
        self.router = Linear(config.n_embd, config.n_expert, rng, bias=False, dtype=dtype)
        self.experts = [MLP(config, rng, std, dtype) for _ in range(config.n_expert)]
        self._config = config

    def __call__(self, x: Tensor, key: Key | None) -> tuple[Tensor, Tensor]:
        """x (B, T, C) -> what to add to it, and its imbalance, a scalar."""
        k, E = self._config.n_expert_per_token, len(self.experts)
        rows = x.reshape(-1, x.shape[-1])  # (N, C)
        N = len(rows)
        scores = self.router(rows)  # (N, E)
        chosen = np.argsort(-to_numpy(scores.data), axis=-1, kind="stable")[:, :k]  # (N, k)
        order = np.argsort(chosen.reshape(-1), kind="stable")  # expert by expert, (N k,)
        counts = np.bincount(chosen.reshape(-1), minlength=E)

        chosen, order, tokens = (
            np.asarray(a, like=x.data) for a in (chosen, order, np.arange(N)[:, None])
        )
        gates = scores[tokens, chosen].softmax()  # (N, k)
        groups = F.split(F.dispatch(rows, order), sizes=counts.tolist(), axis=0)
        parts = [expert(group, None) for expert, group in zip(self.experts, groups, strict=True)]
        y = F.combine(F.concatenate(parts), gates, order).reshape(*x.shape)

        f = np.asarray(counts / N, dtype=x.dtype, like=x.data)
        imbalance = E * (scores.softmax().mean(axis=0) * f).sum()
        return F.dropout(y, self._config.dropout, key and key.fold(2)), imbalance
