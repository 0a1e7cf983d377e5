"""GPT-2 in PyTorch, written apart from ours: an oracle for losses, gradients and training."""

import math

import torch
from torch.nn import functional as F


class TorchGPT(torch.nn.Module):
    """The GPT of `config` with the weights `state`, in float64.

    Parameters keep our names (with / for .) and our layout, so nothing is transposed on the way.
    """

    def __init__(self, config, state):
        super().__init__()
        self.config = config
        for name, array in state.items():
            weight = torch.nn.Parameter(torch.tensor(array, dtype=torch.float64))
            self.register_parameter(name.replace(".", "/"), weight)

    def named(self):
        return {name.replace("/", "."): p for name, p in self.named_parameters()}

    def forward(self, ids):
        """ids (B, T) -> logits (B, T, V)."""
        w, config = self.named(), self.config
        B, T = ids.shape
        C, H = config.n_embd, config.n_head

        def linear(x, name):
            return F.linear(x, w[f"{name}.weight"].T, w[f"{name}.bias"])

        def norm(x, name):
            return F.layer_norm(x, (C,), w[f"{name}.weight"], w[f"{name}.bias"])

        def heads(x):
            return x.view(B, T, H, C // H).transpose(1, 2)

        x = F.embedding(ids, w["wte.weight"]) + w["wpe.weight"][:T]
        for layer in range(config.n_layer):
            h = f"h.{layer}"
            q, k, v = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").chunk(3, dim=-1)
            y = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
            x = x + linear(y.transpose(1, 2).reshape(B, T, C), f"{h}.attn.c_proj")
            y = F.gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc"), approximate="tanh")
            x = x + linear(y, f"{h}.mlp.c_proj")
        return norm(x, "ln_f") @ w["wte.weight"].T

    def loss(self, ids, targets):
        """Mean nats over the targets that are not -1."""
        logits = self(ids)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)


def decay_groups(parameters, weight_decay):
    """Groups for a torch optimizer: decay for two dimensions and more only."""
    parameters = list(parameters)
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def nanogpt_lr(step, peak, floor, warmup, steps):
    """nanoGPT's get_lr, for rates that differ from step to step."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / (steps - warmup)
    return floor + 0.5 * (1 + math.cos(math.pi * done)) * (peak - floor)
