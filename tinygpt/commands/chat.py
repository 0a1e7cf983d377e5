"""What a model made for conversation expects to read: its folder's chat template, filled in."""

from __future__ import annotations

import datetime
import json
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

from ..huggingface.folder import read_json


def chat_prompt(folder: str, message: str) -> str:
    """The text of a conversation in which `message` was said, and an answer is to follow.

    The template is chat_template.jinja, or chat_template in tokenizer_config.json, and is rendered
    as transformers does it, in jinja2's sandbox: it can neither call nor change what is outside.
    """
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError:
        raise RuntimeError(
            "--chat needs jinja2, which is not installed; "
            f'try: {shlex.quote(sys.executable)} -m pip install "tinygpt[chat]"'
        ) from None
    file = Path(folder) / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    source = _template(folder, config)
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    tokens = {name: _text(config[name]) for name in config if name.endswith("_token")}
    try:
        return environment.from_string(source).render(
            messages=[{"role": "user", "content": message}], add_generation_prompt=True, **tokens
        )
    except TemplateError as error:
        raise ValueError(f"the chat template in {folder} cannot be used: {error}") from None


def _template(folder: str, config: dict[str, Any]) -> str:
    path = Path(folder) / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several, with names
        named = {entry.get("name"): entry for entry in template if isinstance(entry, dict)}
        template = named.get("default", {}).get("template")
    if not isinstance(template, str):
        raise ValueError(
            f"{folder} has no chat template, so this model was not made for conversation; "
            "leave --chat out"
        )
    return template


def _text(token: Any) -> str:
    """A special token is a string, or an object that has one."""
    return str(token.get("content", "") if isinstance(token, dict) else token or "")


def _tojson(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    from jinja2 import TemplateError

    raise TemplateError(message)
