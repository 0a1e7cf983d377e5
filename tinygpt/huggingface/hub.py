"""From the name of a model to its folder."""

from __future__ import annotations

import os
from pathlib import Path

# Weights, settings, tokenizer, chat template. Nothing else of a repository is fetched.
FILES = ["*.json", "model*.safetensors", "tokenizer.model", "chat_template.jinja"]


def find_folder(folder_or_name: str | os.PathLike) -> Path:
    """The folder itself, or that in which huggingface_hub keeps the model of this name.

    ValueError if there is no such folder and the name cannot be fetched, saying why.
    """
    folder = Path(folder_or_name)
    if folder.is_dir():
        return folder
    name = os.fspath(folder_or_name)
    if folder.exists():
        raise ValueError(f"{name} is a file; give the folder that holds config.json")
    try:
        import huggingface_hub
    except ImportError:
        raise ValueError(
            f"there is no folder {name}; for a model of that name on huggingface.co, "
            'pip install "tinygpt[hub]", which brings huggingface_hub'
        ) from None
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"there is no folder {name}, and huggingface.co gave no model of that name: {reason}"
        ) from error
