"""python -m tinygpt, as a user calls it."""

import importlib

import numpy as np
import pytest

from tinygpt import GPT, GPTConfig, cases, ops, tokenizers
from tinygpt.__main__ import main


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "gradcheck" in printed
    assert "generate" in printed


def test_gradcheck_prints_a_line_for_each_op_and_one_for_a_gpt(capsys):
    assert main(["gradcheck"]) == 0
    lines = capsys.readouterr().out.splitlines()
    right = {line.split()[1]: float(line.split()[2]) for line in lines if line.startswith("ok")}
    assert set(right) == {*ops.__all__, "GPT"}
    assert max(right.values()) < 1e-6


def test_gradcheck_fails_where_an_op_is_wrong(capsys, monkeypatch):
    def wrong(x):
        return np.sin(x), lambda dy: (dy * np.sin(x),)

    module = importlib.import_module("tinygpt.gradcheck")
    monkeypatch.setattr(module, "EACH_ENTRY", 0)
    monkeypatch.setattr(module, "DIRECTIONS", 1)
    some = {name: cases.TABLE[name] for name in ("exp", "log")}
    sin = {"sin": lambda draw: cases.use(wrong, draw(3))}
    monkeypatch.setattr(cases, "TABLE", {**some, **sin})
    assert main(["gradcheck"]) == 1
    printed = capsys.readouterr().out
    assert "WRONG  sin" in printed
    assert printed.count("WRONG") == 1


@pytest.fixture
def folder(tmp_path):
    tokenizer = tokenizers.Char.train("to be, or not\n")
    config = GPTConfig(tokenizer.vocab_size, 8, n_layer=1, n_head=2, n_embd=8)
    GPT(config).save(tmp_path / "model", tokenizer)
    return str(tmp_path / "model")


def test_generate_prints_the_prompt_and_what_follows(folder, capsys):
    assert main(["generate", folder, "--prompt", "to be", "--max-new-tokens", "20"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("to be")
    assert len(printed) == len("to be") + 20 + 1
