"""Small random models of transformers, truly float64, and what they say: the reference."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
torch.set_num_threads(1)  # models of a few hundred numbers
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


@contextlib.contextmanager
def float64():
    """transformers computes norms, angles, softmax and routers in float32 whatever a model's dtype.

    It says so by torch.float32, torch.float and Tensor.float: here these mean float64.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(torch, "float", torch.float64)
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def make(model_type, seed=0, dtype="float64", **options):
    """A model of transformers with `options`; every parameter is random, of size O(1)."""
    config = transformers.AutoConfig.for_model(
        model_type,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="eager",
        experts_implementation="eager",
        **options,
    )
    transformers.AutoModelForCausalLM.from_config(config)  # imports what it needs
    with float64() if dtype == "float64" else contextlib.nullcontext():
        model = transformers.AutoModelForCausalLM.from_config(config)
    model = model.to(getattr(torch, dtype)).eval()
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            centre = 1.0 if "norm" in name or "ln_" in name else 0.0
            scale = 1.0 if "embed" in name or "wte" in name else 0.4
            p.copy_(torch.tensor(centre + scale * rng.standard_normal(p.shape)))
    return model


def load(folder, dtype="float64"):
    """What transformers loads from a folder."""
    with float64() if dtype == "float64" else contextlib.nullcontext():
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            attn_implementation="eager",
            experts_implementation="eager",
            dtype=getattr(torch, dtype),
        ).eval()


def logits_of(model, ids):
    """Of the ids (B, T), an array (B, T, V) of the model's dtype."""
    with torch.no_grad(), context(model):
        return model(torch.tensor(ids), use_cache=False).logits.numpy()


def gradients_of(model, ids, targets):
    """Of the mean cross-entropy: {their name: array}."""
    model.zero_grad()
    with context(model):
        logits = model(torch.tensor(ids), use_cache=False).logits
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.tensor(targets).flatten()
        ).backward()
    found = {}
    for name, p in model.named_parameters():
        found |= as_in_files(name, p.grad.numpy())
    return found


def as_in_files(name, array):
    """A parameter by the names that it has in files, where Mixtral's experts are not stacked."""
    name = name.replace(".mlp.gate.", ".block_sparse_moe.gate.")
    before, stacked, kind = name.partition(".mlp.experts.")
    if not stacked:
        return {name: array}
    found = {}
    for e, expert in enumerate(array):
        inner = len(expert) // 2
        halves = {"w1": expert[:inner], "w3": expert[inner:]}
        for w, part in (halves if kind == "gate_up_proj" else {"w2": expert}).items():
            found[f"{before}.block_sparse_moe.experts.{e}.{w}.weight"] = part
    return found


def context(model):
    return float64() if model.dtype == torch.float64 else contextlib.nullcontext()
