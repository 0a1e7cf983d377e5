"""The model and the tokenizer in a folder, for commands that read or write text."""

from __future__ import annotations

from pathlib import Path

from ..backend import resolve_device
from ..checkpoint import load
from ..gpt import GPT
from ..tokenizers import Tokenizer, from_dict


def open_model(name: str, device: str) -> tuple[GPT, Tokenizer]:
    """What was saved in the folder `name`; ValueError where it is not a model that reads text."""
    best = Path(name) / "best"
    if best.is_dir():
        raise ValueError(f"{name} is the folder of a run; its best model is in {best}")
    _, meta, _ = load(name, groups=())
    if not isinstance(meta.get("tokenizer"), dict):
        raise ValueError(f"{name} was saved without a tokenizer, so it cannot read text")
    tokenizer = from_dict(meta["tokenizer"], source=name)
    model = GPT.load(name, device=resolve_device(device))
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{name} holds a model of {model.config.vocab_size} tokens, and a tokenizer "
            f"of {tokenizer.vocab_size}: they do not belong together"
        )
    return model, tokenizer
