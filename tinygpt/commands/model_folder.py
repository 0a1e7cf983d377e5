"""The model and the tokenizer in a folder, for commands that read or write text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import tokenizers
from ..backend import resolve_device
from ..checkpoint import load
from ..gpt import GPT
from ..tokenizers import Tokenizer


def open_model(folder: str, device: str) -> tuple[GPT, Tokenizer]:
    """What is in a folder of ours, or of Hugging Face (which has a config.json).

    ValueError where there is no model in it, or none that can read text.
    """
    device = resolve_device(device)
    if (Path(folder) / "config.json").is_file():
        return _of_hugging_face(Path(folder), device)
    _refuse_run(folder)
    _, meta, _ = load(folder, groups=())
    if not isinstance(meta.get("tokenizer"), dict):
        raise ValueError(f"{folder} was saved without a tokenizer, so it cannot read text")
    tokenizer = tokenizers.from_dict(meta["tokenizer"], source=folder)
    model = GPT.load(folder, device=device)
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{folder} holds a model of {model.config.vocab_size} tokens, and a tokenizer "
            f"of {tokenizer.vocab_size}: they do not belong together"
        )
    return model, tokenizer


def open_weights(folder: str) -> GPT:
    """The model in a folder of ours, or of Hugging Face; a tokenizer need not be there."""
    if (Path(folder) / "config.json").is_file():
        return GPT.from_pretrained(folder)
    _refuse_run(folder)
    return GPT.load(folder)


def _refuse_run(folder: str) -> None:
    best = Path(folder) / "best"
    if best.is_dir():
        raise ValueError(f"{folder} is the folder of a run; its best model is in {best}")


def _of_hugging_face(folder: Path, device: str) -> tuple[GPT, Tokenizer]:
    if (folder / "tokenizer.json").is_file():
        tokenizer: Tokenizer = tokenizers.load(folder / "tokenizer.json")
    elif (folder / "tokenizer.model").is_file():
        tokenizer = tokenizers.from_sentencepiece(folder / "tokenizer.model")
    else:
        raise ValueError(f"{folder / 'tokenizer.json'} is missing, so this model cannot read text")
    return GPT.from_pretrained(folder, device), tokenizer


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


def read_json(file: Path) -> dict[str, Any]:
    """The table in a JSON file; ValueError, naming the file, where there is none."""
    try:
        table = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} cannot be read: {error}") from None
    if not isinstance(table, dict):
        raise ValueError(f"{file} cannot be read: it should hold a table")
    return table
