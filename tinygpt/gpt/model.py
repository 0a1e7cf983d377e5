"""GPT: the blocks, one after the other, between an embedding and a head."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import checkpoint
from .. import functional as F
from ..backend import resolve_device, to_numpy
from ..generate import generate, stream
from ..kernels import sent
from ..nn import Embedding, LayerNorm, Module, RMSNorm, check_ids, make_room
from ..rng import Key, NoWeights, Rng, as_generator, as_key
from ..sampling import Sampling
from ..score import score
from ..tensor import Tensor, no_grad
from ..vjp import remat
from .attention import Attention
from .cache import KVCache
from .card import card
from .config import GPTConfig
from .feed_forward import MLP
from .mixture import Mixture
from .positions import position_tables, token_positions


class Block(Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)).

    The second sum is left to the norm behind it, that of the next block: a GPU reads and writes x
    only once for both. So a block gets x and a branch that is still to be added to it (or None),
    and returns these two. With a mixture of experts it also returns how far from balanced that was.
    """

    def __init__(self, config: GPTConfig, rng, dtype):
        std = 0.0 if config.zero_init_residual else 0.02 / math.sqrt(2 * config.n_layer)
        self.ln_1 = _norm(config, dtype)
        self.attn = Attention(config, rng, std, dtype)
        self.ln_2 = _norm(config, dtype)
        self.mlp = (MLP if config.n_expert is None else Mixture)(config, rng, std, dtype)

    def __call__(
        self, x, branch, turn, key: Key | None, cache: KVCache | None, layer: int
    ) -> tuple:
        x, y = self.ln_1.add_and_norm(x, branch)
        x, y = self.ln_2.add_and_norm(x, self.attn(y, turn, key, cache, layer))
        branch = self.mlp(y, key)
        return (x, *branch) if isinstance(branch, tuple) else (x, branch)


def _added(x: Tensor, branch: Tensor | None) -> Tensor:
    return x if branch is None else x + branch


def _norm(config: GPTConfig, dtype) -> LayerNorm | RMSNorm:
    if config.norm == "rms_norm":
        return RMSNorm(config.n_embd, config.norm_eps, dtype)
    return LayerNorm(config.n_embd, config.bias, config.norm_eps, dtype)


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
        rng = rng if isinstance(rng, NoWeights) else as_generator(rng)
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
        return self._logits(self._hidden(ids, rng, cache))

    def loss(self, ids: Any, targets: Any, rng: Rng = None) -> Tensor:
        """Mean nats per target, a scalar Tensor. ids, targets (B, T); a target of -1 is skipped.

        With a mixture of experts, balance_weight times its imbalance (see mixture.py) is added
        where gradients are recorded. Inside no_grad(), as in evaluate(), a loss is nats alone.
        """
        targets = check_ids("targets", targets, self.config.vocab_size, ignored=-1)
        imbalances: list[Tensor] = []
        x = self._hidden(ids, rng, imbalances=imbalances)
        targets = sent(targets, x.data)  # checked where they were, needed where x is
        if targets.shape != x.shape[:2]:
            raise ValueError(f"targets have shape {targets.shape}, ids have {x.shape[:2]}")
        if self.config.logit_softcap is None:
            loss = F.linear_cross_entropy(x, self._head(), targets)
        else:
            loss = F.cross_entropy(self._logits(x), targets)
        if x.requires_grad and self.config.balance_weight:
            for imbalance in imbalances:
                loss = loss + imbalance * (self.config.balance_weight / len(imbalances))
        return loss

    def _logits(self, x: Tensor) -> Tensor:
        """What the head says to x (..., C) -> (..., V)."""
        logits, cap = x @ self._head().T, self.config.logit_softcap
        return logits if cap is None else F.softcap(logits, cap=cap)

    def _head(self) -> Tensor:
        return self.wte.weight if self.config.tie_weights else self.lm_head.weight  # (V, C)

    def _hidden(
        self,
        ids: Any,
        rng: Rng = None,
        cache: KVCache | None = None,
        imbalances: list[Tensor] | None = None,
    ) -> Tensor:
        """ids (B, T) -> what the head sees, (B, T, C). The list gets the imbalance of mixtures."""
        config = self.config
        ids = check_ids("ids", ids, config.vocab_size)
        starts = (0,) if cache is None else cache.starts
        if ids.ndim != 2:
            raise ValueError(f"ids must have shape (batch, time), not {ids.shape}")
        B, T = ids.shape
        if max(starts) + T > config.block_size and not config.endless:
            raise ValueError(
                f"{max(starts) + T} tokens do not fit in block_size={config.block_size}; "
                "give fewer, or use generate(), which keeps to the newest"
            )
        ids = sent(ids, self.wte.weight.data)  # checked where they were
        positions = position_tables(config, starts, T, self.wte.weight.dtype)
        key = as_key(rng) if config.dropout else None
        x = self.wte(ids)  # (B, T, C)
        turn: list = []
        if config.position == "learned":
            places: Any = slice(starts[0], starts[0] + T)
            if len(starts) > 1:
                places = np.asarray(token_positions(starts, T), like=x.data)
            x = x + self.wpe.weight[places]
        elif config.position == "sinusoidal":
            x = x + sent(positions[0], x.data)
        elif config.position == "rope":
            turn = [sent(table, x.data) for table in positions]
        x = F.dropout(x, config.dropout, key and key.fold(config.n_layer))
        branch = None  # what is still to be added to x
        for layer, block in enumerate(self.h):
            f = functools.partial(
                block, turn=turn, key=key and key.fold(layer), cache=cache, layer=layer
            )
            if config.remat and cache is None:
                # What f is given is kept: one array rather than two.
                x, branch, *imbalance = remat(f, _added(x, branch), None)
            else:
                x, branch, *imbalance = f(x, branch)
            if imbalances is not None:
                imbalances.extend(imbalance)
        if cache is not None:
            cache.advance(T)
        return self.ln_f(_added(x, branch))  # nothing goes on from the sum itself

    def generate(
        self,
        ids: Any,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop: int | Sequence[int] | None = None,
        rng: Any = 0,
        use_cache: bool = True,
        min_p: float | None = None,
        repetition_penalty: float = 1.0,
    ) -> Any:
        """Go on from prompts for up to max_new_tokens each: an int array (B, T + new).

        ids (B, T), or a list of B prompts. If these are of different lengths, a list of B arrays
        comes back, each as long as it got to be. A prompt among others gets the tokens that it gets
        by itself. stop and rng: see generate.py; all else: see sampling.py.

        Past block_size, the newest half of a block is kept, and grows again. Only an endless model
        (see GPTConfig.endless) goes on as if there was no block_size, in a cache that stays as it
        is (see KVCache).
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
        return generate(*self._generation(ids, max_new_tokens, sampling, stop, rng, use_cache))

    def stream(
        self,
        ids: Any,
        max_new_tokens: int,
        stop: int | Sequence[int] | None = None,
        rng: Any = 0,
        use_cache: bool = True,
        **sampling: Any,
    ) -> Iterator[np.ndarray]:
        """What generate() adds to its prompts, as it comes: for each step, an int array (B,)."""
        sampler = Sampling(**sampling)
        return stream(*self._generation(ids, max_new_tokens, sampler, stop, rng, use_cache))

    def _generation(self, ids, max_new_tokens, sampling, stop, rng, use_cache) -> tuple:
        """The arguments of stream() and generate() in generate.py."""
        V = self.config.vocab_size
        if isinstance(ids, list | tuple) and len({np.size(row) for row in ids}) > 1:
            ids = [to_numpy(check_ids(f"ids[{b}]", row, V)) for b, row in enumerate(ids)]
        else:
            ids = np.atleast_1d(to_numpy(check_ids("ids", ids, V)))
        stop = () if stop is None else to_numpy(check_ids("stop", stop, V)).reshape(-1).tolist()
        cache = KVCache(self.config, len(ids), self.wte.weight.data) if use_cache else None
        block_size = sys.maxsize if self.config.endless else self.config.block_size
        return self._next_logits, ids, max_new_tokens, block_size, sampling, stop, rng, cache

    def _next_logits(self, ids: np.ndarray, cache: KVCache | None) -> np.ndarray:
        """The logits (B, V) of the token after ids (B, T), which follow what the cache holds."""
        with no_grad():
            x = self._hidden(ids, cache=cache)
            return self._logits(x[:, -1]).data

    def score(self, text: Any, tokenizer: Any = None, stride: int | None = None) -> np.ndarray:
        """log p of every token but the first, given those before it: float64 (N - 1,), in nats.

        text: a str, which needs a tokenizer, and gets no special tokens; or ids (N,). A text of
        more than block_size tokens is seen through windows that move on by `stride`, half a block
        unless given: see score.py.
        """
        if isinstance(text, str):
            if tokenizer is None:
                raise TypeError("to score a str, pass the tokenizer too; or pass ids")
            _check_tokenizer(tokenizer)
            text = tokenizer.encode_array(text)
        ids = to_numpy(check_ids("ids", text, self.config.vocab_size))
        with no_grad():
            return score(lambda ids: self(ids).data, ids, self.config.block_size, stride)

    def card(self) -> str:
        """A text: parameters part by part, products per token, memory. See card.py."""
        return card(self)

    def save(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Write the model, and its tokenizer if given, to `folder`, for GPT.load to read."""
        _check_tokenizer(tokenizer)
        meta = {
            "config": asdict(self.config),
            "tokenizer": None if tokenizer is None else tokenizer.to_dict(),
        }
        checkpoint.save(folder, 0, {"model": self.state_dict()}, meta)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> GPT:
        """Read a model that save() or a training run wrote; ValueError where that cannot be."""
        _refuse_others(Path(folder))
        arrays, meta, _ = checkpoint.load(folder, groups=("model",))
        try:
            config = GPTConfig(**meta["config"])
            weights = arrays["model"]
            numbers = sum(w.size for w in weights.values())
            if numbers != config.parameter_count:  # before room is made for them
                raise ValueError(f"{config.parameter_count:,} weights expected, {numbers:,} found")
            model = cls(config, NoWeights(), dtype=weights["wte.weight"].dtype)
            make_room(model)
            model.load_state_dict(weights)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder} does not hold a GPT: {error}") from error
        return model._on(device)

    @classmethod
    def from_pretrained(cls, folder_or_name: str | os.PathLike, device: str = "cpu") -> GPT:
        """Read a folder of Hugging Face: GPT-2, Llama, Mistral, Qwen2, Qwen3 or Mixtral.

        The weights are float32, or float64 where the file has that; float16 and bfloat16 are
        widened. Its tokenizer: tokenizers.load(folder + "/tokenizer.json"). Where there is no such
        folder and huggingface_hub is installed, the name of a model on huggingface.co will do.

        ValueError, naming file, tensor or setting, what was expected and what was found, for
        whatever is missing or damaged, or asks for what we do not have.
        """
        from .. import huggingface

        folder = huggingface.Folder(huggingface.find_folder(folder_or_name))
        return cls._filled(folder, folder.config_file, device)

    @classmethod
    def from_llama2c(cls, file: str | os.PathLike, device: str = "cpu") -> GPT:
        """Read a float32 .bin file of llama2.c; ValueError where it is none.

        Its tokenizer: tokenizers.SentencePieceBPE.from_llama2c("tokenizer.bin").
        """
        from .. import huggingface

        return cls._filled(huggingface.Llama2c(file), file, device)

    @classmethod
    def _filled(cls, source: Any, named: str | os.PathLike, device: str) -> GPT:
        """A model with the options, dtype and weights of an opened file or folder."""
        device = resolve_device(device)
        try:
            config = GPTConfig(**source.options)
        except ValueError as error:
            raise ValueError(f"{os.fspath(named)}: {error}") from None
        if config.parameter_count > 100 * source.size:  # before anything is made of such sizes
            raise ValueError(
                f"{os.fspath(named)} asks for {config.parameter_count:,} parameters, but the "
                f"weights beside it are {source.size:,} numbers"
            )
        model = cls(config, NoWeights(), dtype=source.dtype)
        source.load(model, config)
        return model._on(device)

    def _on(self, device: str) -> GPT:
        self.to(resolve_device(device))
        return self

    def export(self, folder: str | os.PathLike, tokenizer: Any = None) -> None:
        """Write config.json, model.safetensors and, with a tokenizer, tokenizer.json to `folder`,
        which transformers and from_pretrained load.

        ValueError, before anything is written, for a model that none of the families of
        from_pretrained has (`save` keeps any model), or a tokenizer with more tokens than it knows.
        """
        from .. import huggingface

        _check_tokenizer(tokenizer)
        huggingface.export(folder, self.config, self.state_dict(), tokenizer)


def _check_tokenizer(tokenizer: Any) -> None:
    if tokenizer is not None and not hasattr(tokenizer, "to_dict"):
        raise TypeError(f"expected a tokenizer, not {type(tokenizer).__name__}")


def _refuse_others(folder: Path) -> None:
    """A sentence for the folders that are easily taken for one that save() wrote."""
    if (folder / "checkpoint.json").exists():
        return
    if (folder / "config.json").is_file():
        raise ValueError(f"{folder} is a folder of Hugging Face; GPT.from_pretrained reads it")
    best = folder / "best"
    if best.is_dir():
        raise ValueError(f"{folder} is the folder of a run; its best model is in {best}")
