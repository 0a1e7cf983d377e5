"""GPTConfig: what a model looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ACTIVATIONS = ("gelu_tanh", "gelu", "relu", "relu2", "silu", "swiglu")


@dataclass(frozen=True)
class GPTConfig:
    """What a model looks like. The defaults are GPT-2 124M's. What cannot work is a ValueError.

    vocab_size, block_size: tokens it knows, tokens it sees at once. n_layer, n_head, n_embd: depth,
    query heads, channels. n_kv_head: key and value heads, each shared by n_head / n_kv_head query
    heads (None: n_head). n_inner: width of the feed-forward layer (None: 4 n_embd, or 8/3 n_embd
    rounded up to a multiple of 32 for swiglu, which has a matrix more). qk_norm: queries and keys
    at root mean square 1. zero_init_residual: what each block adds starts at 0. remat: keep only
    what goes into each block, and compute the rest again on the way back: less memory, more time.
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
    activation: Literal["gelu_tanh", "gelu", "relu", "relu2", "silu", "swiglu"] = "gelu_tanh"
    qk_norm: bool = False
    zero_init_residual: bool = False
    remat: bool = False

    def __post_init__(self):
        for name in (
            "vocab_size",
            "block_size",
            "n_layer",
            "n_head",
            "n_embd",
            "n_kv_head",
            "n_inner",
        ):
            value = getattr(self, name)
            optional = name in ("n_kv_head", "n_inner") and value is None
            if not optional and (
                not isinstance(value, int) or isinstance(value, bool) or value < 1
            ):
                raise ValueError(f"{name} must be a whole number from 1 up, not {value!r}")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; "
                f"try n_head={_nearest_divisor(self.n_embd, self.n_head)}"
            )
        if self.n_head % self.kv_heads:
            raise ValueError(
                f"n_head={self.n_head} is not a multiple of n_kv_head={self.n_kv_head}; "
                f"try n_kv_head={_nearest_divisor(self.n_head, self.kv_heads)}"
            )
        for name in ("bias", "tie_weights", "qk_norm", "zero_init_residual", "remat"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, not {getattr(self, name)!r}")
        for name in ("dropout", "rope_base"):
            if not isinstance(getattr(self, name), int | float):
                raise ValueError(f"{name} must be a number, not {getattr(self, name)!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        for name, allowed in (
            ("position", ("learned", "rope", "sinusoidal", "none")),
            ("norm", ("layer_norm", "rms_norm")),
            ("activation", ACTIVATIONS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        if self.position == "rope" and self.head_size % 2:
            raise ValueError(
                f"rope turns pairs of features, and a head has n_embd / n_head = {self.head_size}, "
                "an odd number; change n_embd or n_head"
            )
        if self.position == "sinusoidal" and self.n_embd % 2:
            raise ValueError(f"sinusoidal positions need an even n_embd, not {self.n_embd}")
        if not self.rope_base > 0:
            raise ValueError(f"rope_base must be above 0, not {self.rope_base}")

    @property
    def head_size(self) -> int:
        return self.n_embd // self.n_head

    @property
    def kv_heads(self) -> int:
        return self.n_kv_head or self.n_head

    @property
    def inner_size(self) -> int:
        if self.n_inner is not None:
            return self.n_inner
        return 4 * self.n_embd if self.activation != "swiglu" else -(-8 * self.n_embd // 96) * 32

    @property
    def parameter_count(self) -> int:
        """How many numbers a model learns: weights and biases, each shared one once."""
        C, inner, bias = self.n_embd, self.inner_size, int(self.bias)
        qkv = C + 2 * self.kv_heads * self.head_size
        up = 2 * inner if self.activation == "swiglu" else inner
        norm = C if self.norm == "rms_norm" else C + bias * C
        attention = C * qkv + C * C + bias * (qkv + C)
        mlp = C * up + inner * C + bias * (up + C)
        tables = self.vocab_size * (1 if self.tie_weights else 2)
        tables += self.block_size if self.position == "learned" else 0
        return tables * C + self.n_layer * (2 * norm + attention + mlp) + norm


def _nearest_divisor(n: int, wanted: int) -> int:
    return min((d for d in range(1, n + 1) if n % d == 0), key=lambda d: abs(d - wanted))
