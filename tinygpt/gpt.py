"""GPT: the configuration, the blocks, the model."""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import checkpoint
from . import functional as F
from .backend import resolve_device, to_numpy
from .generate import generate
from .nn import Embedding, LayerNorm, Linear, Module, RMSNorm, check_ids
from .ops.rope import rope_tables
from .rng import Key, Rng, as_generator, as_key
from .tensor import Tensor, no_grad
from .vjp import remat

ACTIVATIONS = {
    "gelu_tanh": F.gelu_tanh,
    "gelu": F.gelu,
    "relu": F.relu,
    "relu2": F.relu2,
    "silu": F.silu,
}


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
            ("activation", (*ACTIVATIONS, "swiglu")),
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


class KVCache:
    """The keys and values of every layer for the tokens so far: room for block_size of them."""

    def __init__(self, config: GPTConfig, batch: int, like: Any):
        shape = (config.n_layer, 2, batch, config.kv_heads, config.block_size, config.head_size)
        self.arrays = np.empty(shape, like.dtype, like=like)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Note k and v (B, G, T, D) of the newest tokens; return those of all, (B, G, S, D)."""
        if k.requires_grad:
            raise RuntimeError("a cache carries no gradients: use it inside `with no_grad():`")
        stop = self.length + k.shape[2]
        keys, values = self.arrays[layer]
        keys[:, :, self.length : stop] = k.data
        values[:, :, self.length : stop] = v.data
        return Tensor(keys[:, :, :stop]), Tensor(values[:, :, :stop])


class Attention(Module):
    """Causal self-attention: each token takes from those before it what it asks for."""

    def __init__(self, config: GPTConfig, rng, std: float, dtype):
        C, D = config.n_embd, config.head_size
        self.c_attn = Linear(C, C + 2 * config.kv_heads * D, rng, config.bias, dtype=dtype)
        self.c_proj = Linear(C, C, rng, config.bias, std, dtype)
        self._config = config

    def __call__(self, x, turn, key: Key | None, cache: KVCache | None, layer: int) -> Tensor:
        config = self._config
        B, T, C = x.shape
        H, G, D = config.n_head, config.kv_heads, config.head_size
        heads = self.c_attn(x).reshape(B, T, H + 2 * G, D)
        q, k, v = F.split(heads, sizes=(H, G, G), axis=2)
        q = q.transpose(0, 2, 1, 3)  # (B, H, T, D)
        k = k.transpose(0, 2, 1, 3)  # (B, G, T, D)
        v = v.transpose(0, 2, 1, 3)  # (B, G, T, D)
        if config.qk_norm:
            q, k = F.rms_norm(q, None), F.rms_norm(k, None)
        if turn is not None:
            q, k = F.rope(q, *turn), F.rope(k, *turn)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, dropout_p=config.dropout, rng=key and key.fold(0)
        )
        y = y.transpose(0, 2, 1, 3).reshape(B, T, C)
        return F.dropout(self.c_proj(y), config.dropout, key and key.fold(1))


class MLP(Module):
    """The feed-forward layer: each token by itself, through a wider layer."""

    def __init__(self, config: GPTConfig, rng, std: float, dtype):
        C, inner = config.n_embd, config.inner_size
        gated = config.activation == "swiglu"
        self.c_fc = Linear(C, (2 if gated else 1) * inner, rng, config.bias, dtype=dtype)
        self.c_proj = Linear(inner, C, rng, config.bias, std, dtype)
        self._config = config

    def __call__(self, x: Tensor, key: Key | None) -> Tensor:
        config = self._config
        h = self.c_fc(x)  # (B, T, inner), or (B, T, 2 inner) with a gate
        if config.activation == "swiglu":
            gate, up = F.split(h, sizes=(config.inner_size, config.inner_size))
            h = F.silu(gate) * up  # Shazeer 2020, arXiv:2002.05202
        else:
            h = ACTIVATIONS[config.activation](h)
        return F.dropout(self.c_proj(h), config.dropout, key and key.fold(2))


class Block(Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: GPTConfig, rng, dtype):
        std = 0.0 if config.zero_init_residual else 0.02 / math.sqrt(2 * config.n_layer)
        self.ln_1 = _norm(config, dtype)
        self.attn = Attention(config, rng, std, dtype)
        self.ln_2 = _norm(config, dtype)
        self.mlp = MLP(config, rng, std, dtype)

    def __call__(self, x, turn, key: Key | None, cache: KVCache | None, layer: int) -> Tensor:
        x = x + self.attn(self.ln_1(x), turn, key, cache, layer)
        return x + self.mlp(self.ln_2(x), key)


def _norm(config: GPTConfig, dtype) -> Module:
    if config.norm == "rms_norm":
        return RMSNorm(config.n_embd, dtype=dtype)
    return LayerNorm(config.n_embd, config.bias, dtype=dtype)


class GPT(Module):
    """A decoder-only transformer: GPT-2's (Radford et al. 2019), with the options of GPTConfig.

    rng: an int or numpy Generator, for the initial weights: normal with standard deviation 0.02,
    and 0.02 / sqrt(2 n_layer) for the two projections of each block that add to its input, as in
    GPT-2. Parameters have GPT-2's own names, and weights are stored (in, out).
    """

    def __init__(
        self, config: GPTConfig, rng: Any = 0, device: str = "cpu", dtype: Any = "float32"
    ):
        if not isinstance(config, GPTConfig):
            raise TypeError(f"GPT takes a GPTConfig, not {type(config).__name__}")
        if np.dtype(dtype).kind != "f":
            raise TypeError(f"weights are floats, such as float32, not {np.dtype(dtype)}")
        self.config = config
        rng = as_generator(rng)
        self.wte = Embedding(config.vocab_size, config.n_embd, rng, dtype=dtype)
        if config.position == "learned":
            self.wpe = Embedding(config.block_size, config.n_embd, rng, dtype=dtype)
        self.h = [Block(config, rng, dtype) for _ in range(config.n_layer)]
        self.ln_f = _norm(config, dtype)
        if not config.tie_weights:
            self.lm_head = Embedding(config.vocab_size, config.n_embd, rng, dtype=dtype)
        device = resolve_device(device)
        if device != "cpu":
            self.to(device)

    def __call__(self, ids: Any, rng: Rng = None, cache: KVCache | None = None) -> Tensor:
        """ids (B, T) ints -> logits (B, T, vocab_size). Dropout is on exactly when an rng is given.

        With a cache, ids are the tokens that follow those in it, and are added to it.
        """
        x = self._hidden(ids, rng, cache)
        return x @ self._head().T

    def loss(self, ids: Any, targets: Any, rng: Rng = None) -> Tensor:
        """Mean nats per target, a scalar Tensor. ids, targets (B, T); a target of -1 is skipped."""
        targets = check_ids("targets", targets, self.config.vocab_size, ignored=-1)
        x = self._hidden(ids, rng)
        targets = np.asarray(targets, like=x.data)  # checked where they were, needed where x is
        if targets.shape != x.shape[:2]:
            raise ValueError(f"targets have shape {targets.shape}, ids have {x.shape[:2]}")
        return F.linear_cross_entropy(x, self._head(), targets)

    def _head(self) -> Tensor:
        return self.wte.weight if self.config.tie_weights else self.lm_head.weight  # (V, C)

    def _hidden(self, ids: Any, rng: Rng = None, cache: KVCache | None = None) -> Tensor:
        """ids (B, T) -> what the head sees, (B, T, C)."""
        config = self.config
        ids = check_ids("ids", ids, config.vocab_size)
        start = 0 if cache is None else cache.length
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (batch, time), not {ids.shape}")
        B, T = ids.shape
        if start + T > config.block_size:
            raise ValueError(
                f"{start + T} tokens do not fit in block_size={config.block_size}; "
                "give fewer, or use generate(), which keeps to the newest"
            )
        ids = np.asarray(ids, like=self.wte.weight.data)  # checked where they were
        positions = _position_tables(config, start, start + T, self.wte.weight.dtype)
        key = as_key(rng) if config.dropout else None
        x = self.wte(ids)  # (B, T, C)
        turn = None
        if config.position == "learned":
            x = x + self.wpe.weight[start : start + T]
        elif config.position == "sinusoidal":
            x = x + np.asarray(positions[0], like=x.data)
        elif config.position == "rope":
            turn = [np.asarray(table, like=x.data) for table in positions]
        x = F.dropout(x, config.dropout, key and key.fold(config.n_layer))
        for layer, block in enumerate(self.h):
            f = functools.partial(
                block, turn=turn, key=key and key.fold(layer), cache=cache, layer=layer
            )
            x = remat(f, x) if config.remat and cache is None else f(x)
        if cache is not None:
            cache.length += T
        return self.ln_f(x)

    def generate(
        self,
        ids: Any,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: int | None = None,
        rng: Any = 0,
        use_cache: bool = True,
    ) -> np.ndarray:
        """Go on from ids (B, T) for max_new_tokens -> int array (B, T + new). See generate.py."""
        ids = to_numpy(check_ids("ids", ids, self.config.vocab_size))
        if stop is not None:
            check_ids("stop", stop, self.config.vocab_size)
        return generate(
            self._next_logits, ids, max_new_tokens, self.config.block_size,
            temperature=temperature, top_k=top_k, top_p=top_p, stop=stop, rng=rng,
            use_cache=use_cache,
        )  # fmt: skip

    def _next_logits(self, ids: np.ndarray, cache: KVCache | None) -> tuple[np.ndarray, KVCache]:
        """The logits (B, V) of the token after ids, and the cache that now holds them."""
        with no_grad():
            if cache is None:
                cache = KVCache(self.config, len(ids), self.wte.weight.data)
            x = self._hidden(ids, cache=cache)
            return (x[:, -1] @ self._head().T).data, cache

    def save(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Write the model, and its tokenizer if given, to `folder`, for GPT.load to read."""
        if tokenizer is not None and not hasattr(tokenizer, "to_dict"):
            raise TypeError(f"expected a tokenizer, not {type(tokenizer).__name__}")
        meta = {
            "config": asdict(self.config),
            "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        }
        checkpoint.save(folder, 0, {"model": self.state_dict()}, meta)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> GPT:
        """Read a model that save() or a training run wrote; ValueError where that cannot be."""
        arrays, meta, _ = checkpoint.load(folder, groups=("model",))
        try:
            config = GPTConfig(**meta["config"])
            weights = arrays["model"]
            numbers = sum(w.size for w in weights.values())
            if numbers != config.parameter_count:  # before room is made for them
                raise ValueError(f"{config.parameter_count:,} weights expected, {numbers:,} found")
            model = cls(config, device=device, dtype=weights["wte.weight"].dtype)
            model.load_state_dict(weights)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder} does not hold a GPT: {error}") from error
        return model


@functools.lru_cache(maxsize=16)
def _position_tables(
    config: GPTConfig, start: int, stop: int, dtype: Any
) -> tuple[np.ndarray, ...]:
    """Rows start .. stop of what the positions say, T of them. rope: cos and sin (T, D / 2);
    sinusoidal: a table (T, C); else none."""
    positions = np.arange(start, stop)
    if config.position == "rope":
        return rope_tables(positions, config.head_size, config.rope_base, dtype)
    if config.position == "sinusoidal":  # Vaswani et al. 2017, arXiv:1706.03762, section 3.5
        table = np.empty((len(positions), config.n_embd), dtype)
        table[:, 1::2], table[:, 0::2] = rope_tables(positions, config.n_embd, dtype=dtype)
        return (table,)
    return ()
