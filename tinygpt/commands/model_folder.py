"""The model and the tokenizer in a folder, for commands that read or write text."""

from __future__ import annotations

from pathlib import Path

from .. import tokenizers
from ..backend import resolve_device
from ..checkpoint import load
from ..gpt import GPT
from ..huggingface.folder import read_json
from ..tokenizers import Tokenizer


def open_model(folder: str, device: str) -> tuple[GPT, Tokenizer]:
    """What is in a folder of ours, or of Hugging Face.

    ValueError where there is no model in it, or none that can read text.
    """
    device = resolve_device(device)
    if is_hugging_face(Path(folder)):
        tokenizer = _their_tokenizer(Path(folder))  # first, as the weights may take long
        return GPT.from_pretrained(folder, device), tokenizer
    model = GPT.load(folder, device=device)
    _, meta, _ = load(folder, groups=())
    if not isinstance(meta.get("tokenizer"), dict):
        raise ValueError(f"{folder} was saved without a tokenizer, so it cannot read text")
    tokenizer = tokenizers.from_dict(meta["tokenizer"], source=folder)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{folder} holds a model of {model.config.vocab_size} tokens, and a tokenizer "
            f"of {tokenizer.vocab_size}: they do not belong together"
        )
    return model, tokenizer


def open_weights(folder: str) -> GPT:
    """The model in a folder of ours, or of Hugging Face; a tokenizer need not be there."""
    return GPT.from_pretrained(folder) if is_hugging_face(Path(folder)) else GPT.load(folder)


def is_hugging_face(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face, if perhaps not a whole one; ours has other names."""
    return any((folder / name).is_file() for name in ("config.json", "model.safetensors"))


def _their_tokenizer(folder: Path) -> Tokenizer:
    if (folder / "tokenizer.json").is_file():
        return tokenizers.load(folder / "tokenizer.json")
    if (folder / "tokenizer.model").is_file():
        return tokenizers.from_sentencepiece(folder / "tokenizer.model")
    raise ValueError(f"{folder / 'tokenizer.json'} is missing, so this model cannot read text")


def stop_tokens(folder: str) -> list[int]:
    """The ids with which a model of Hugging Face says that it is done: eos_token_id."""
    ids = None
    for name in ("config.json", "generation_config.json"):  # the second has the last word
        file = Path(folder) / name
        if file.is_file():
            ids = read_json(file).get("eos_token_id", ids)
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    if not all(type(i) is int for i in ids):
        raise ValueError(f"{folder}: eos_token_id should be an id or several, not {ids}")
    return ids
