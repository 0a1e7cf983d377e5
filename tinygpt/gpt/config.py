"""GPTConfig: what a model looks like."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .rope_scaling import RopeScaling


@dataclass(frozen=True)
class GPTConfig:
    """What a model looks like. The defaults are GPT-2 124M's. What cannot work is a ValueError.

    Sizes. vocab_size, block_size: tokens it knows, tokens it sees at once. n_layer, n_head, n_embd:
    depth, query heads, channels. n_kv_head: key and value heads, each shared by n_head / n_kv_head
    query heads (None: n_head). head_dim: features of a head (None: n_embd / n_head). n_inner: width
    of the feed-forward layer (None: 4 n_embd, or 8/3 n_embd rounded up to a multiple of 32 for
    swiglu and geglu, which have a matrix more).

    Layers. bias: in linear layers and layer norms; qkv_bias: in queries, keys and values (None: as
    bias). norm_eps: what norms add to a variance. zero_init_residual: what each block adds starts
    at 0. remat: keep only what goes into each block, and compute the rest again on the way back:
    less memory, more time.

    Positions. rope_base: the slowest pair of a head turns by about 1 / rope_base per token.
    rope_scaling: see RopeScaling; a dict of its fields will do.

    Attention. qk_norm: queries and keys at root mean square 1, then, with qk_norm_weight, times
    a learned weight per feature of a head. window: a token sees itself and the window - 1 before it
    (None: all before it), in the layers numbered in window_layers (None: in all of them). sinks:
    with a window, the first `sinks` tokens stay visible (see positions.py). logit_softcap: logits z
    become cap tanh(z / cap).

    Mixture of experts. n_expert: feed-forward layers to choose from in each block (None: there is
    one, for all tokens). n_expert_per_token: how many a token takes. balance_weight: how much the
    loss minds that some experts get more tokens than others (see mixture.py).
    """

    vocab_size: int = 50257
    block_size: int = 1024
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    n_kv_head: int | None = None
    n_inner: int | None = None
    dropout: float = 0.0
    bias: bool = True
    tie_weights: bool = True
    position: Literal["learned", "rope", "sinusoidal", "none"] = "learned"
    rope_base: float = 10000.0
    norm: Literal["layer_norm", "rms_norm"] = "layer_norm"
    activation: Literal["gelu_tanh", "gelu", "relu", "relu2", "silu", "swiglu", "geglu"] = (
        "gelu_tanh"
    )
    qk_norm: bool = False
    zero_init_residual: bool = False
    remat: bool = False
    head_dim: int | None = None
    norm_eps: float = 1e-5
    qkv_bias: bool | None = None
    rope_scaling: RopeScaling | None = None
    qk_norm_weight: bool = False
    window: int | None = None
    window_layers: tuple[int, ...] | None = None
    sinks: int = 0
    logit_softcap: float | None = None
    n_expert: int | None = None
    n_expert_per_token: int = 2
    balance_weight: float = 0.01

    def __post_init__(self):
        object.__setattr__(self, "rope_scaling", RopeScaling.of(self.rope_scaling))
        if isinstance(self.window_layers, list):  # as JSON gives it back
            object.__setattr__(self, "window_layers", tuple(self.window_layers))
        for field in fields(self):
            problem = _not_a(_kinds()[field.name], field.name, getattr(self, field.name))
            if problem:
                raise ValueError(f"{field.name} must be {problem}")
        for contradiction in self._contradictions():
            raise ValueError(contradiction)

    def _contradictions(self) -> Iterator[str]:
        """What is wrong between fields, each of which is right by itself."""
        if self.head_dim is None and self.n_embd % self.n_head:
            yield (
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; "
                f"try n_head={_nearest_divisor(self.n_embd, self.n_head)}"
            )
        if self.n_head % self.kv_heads:
            yield (
                f"n_head={self.n_head} is not a multiple of n_kv_head={self.n_kv_head}; "
                f"try n_kv_head={_nearest_divisor(self.n_head, self.kv_heads)}"
            )
        if self.position == "rope" and self.head_size % 2:
            size, remedy = f"n_embd / n_head = {self.head_size}", "n_embd or n_head"
            if self.head_dim is not None:
                size, remedy = f"head_dim={self.head_dim}", "head_dim"
            yield (
                f"rope turns pairs of features, and a head has {size}, an odd number; "
                f"change {remedy}"
            )
        if self.position == "sinusoidal" and self.n_embd % 2:
            yield f"sinusoidal positions need an even n_embd, not {self.n_embd}"
        if self.rope_scaling is not None and self.position != "rope":
            yield f'rope_scaling needs position="rope", not {self.position!r}'
        if self.qk_norm_weight and not self.qk_norm:
            yield "qk_norm_weight=True needs qk_norm=True: they are the weights of that norm"
        if self.window is None and (self.sinks or self.window_layers is not None):
            name = "sinks" if self.sinks else "window_layers"
            yield f"{name}={getattr(self, name)} needs a window, such as window=256"
        for layer in self.window_layers or ():
            if layer >= self.n_layer:
                yield f"window_layers names layer {layer}, and n_layer={self.n_layer} ends before"
        if self.n_expert is not None and self.n_expert_per_token > self.n_expert:
            yield (
                f"n_expert_per_token={self.n_expert_per_token} is more than "
                f"n_expert={self.n_expert}; a token takes each expert at most once"
            )

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head if self.head_dim is None else self.head_dim

    @property
    def kv_heads(self) -> int:
        return self.n_kv_head or self.n_head

    @property
    def has_qkv_bias(self) -> bool:
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @property
    def gated(self) -> bool:
        """Whether the feed-forward layer has a gate, and so a matrix more."""
        return self.activation in ("swiglu", "geglu")

    @property
    def inner_size(self) -> int:
        if self.n_inner is not None:
            return self.n_inner
        return -(-8 * self.n_embd // 96) * 32 if self.gated else 4 * self.n_embd

    def window_of(self, layer: int) -> int | None:
        """How many tokens a token of this layer sees, itself included; None: all before it."""
        everywhere = self.window_layers is None or layer in self.window_layers
        return self.window if everywhere else None

    @property
    def endless(self) -> bool:
        """Whether texts may be longer than block_size: where every layer has a window, no token is
        further from what it sees than in training, and positions are no table that ends."""
        if self.window is None or self.position not in ("rope", "none"):
            return False
        everywhere = all(self.window_of(layer) is not None for layer in range(self.n_layer))
        return everywhere and self.sinks + self.window <= self.block_size

    @property
    def parameter_count(self) -> int:
        """How many numbers a model learns: weights and biases, each shared one once."""
        C, D, bias = self.n_embd, self.head_size, int(self.bias)
        queries, qkv = self.n_head * D, (self.n_head + 2 * self.kv_heads) * D
        attention = C * qkv + queries * C + self.has_qkv_bias * qkv + bias * C
        attention += 2 * D if self.qk_norm_weight else 0
        up = self.inner_size * (2 if self.gated else 1)
        mlp = C * up + self.inner_size * C + bias * (up + C)
        if self.n_expert is not None:
            mlp = self.n_expert * (mlp + C)  # the router has a column of C for each
        norm = C if self.norm == "rms_norm" else C + bias * C
        tables = self.vocab_size * (1 if self.tie_weights else 2)
        tables += self.block_size if self.position == "learned" else 0
        return tables * C + self.n_layer * (2 * norm + attention + mlp) + norm


LEAST = {"sinks": 0}  # of whole numbers; the others start at 1
FROM_ZERO = {"balance_weight"}  # of numbers; the others are above 0
TOO_LARGE = 1e30  # for float32 to compute with


@functools.cache
def _kinds() -> dict[str, Any]:
    return get_type_hints(GPTConfig)


def _not_a(kind: Any, name: str, value: Any) -> str:
    """What the field `name`, of this type, must be, if value is not that; else nothing."""
    if isinstance(kind, types.UnionType):
        return "" if value is None else _not_a(get_args(kind)[0], name, value)
    if kind is bool:
        right, wanted = isinstance(value, bool), "True or False"
    elif kind is int:
        least = LEAST.get(name, 1)
        right, wanted = _is_whole(value, least), f"a whole number from {least} up"
    elif kind is float and (isinstance(value, bool) or not isinstance(value, int | float)):
        right, wanted = False, "a number"
    elif name == "dropout":
        right, wanted = 0 <= value < 1, "at least 0 and below 1"
    elif kind is float:
        from_zero = name in FROM_ZERO
        right = 0 < value < TOO_LARGE or (from_zero and value == 0)
        wanted = "at least 0" if from_zero else "above 0"
        wanted += f" and below {TOO_LARGE:g}" if value >= TOO_LARGE else ""
    elif get_origin(kind) is Literal:
        allowed = get_args(kind)
        right, wanted = value in allowed, f"one of {allowed}"
    elif get_origin(kind) is tuple:
        right = isinstance(value, tuple) and all(_is_whole(number, 0) for number in value)
        wanted = "a tuple of layer numbers, from 0 up"
    else:
        return ""  # a RopeScaling, which has checked itself
    return "" if right else f"{wanted}, not {value!r}"


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _nearest_divisor(n: int, wanted: int) -> int:
    return min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: abs(d - wanted))
