"""python -m tinygpt perplexity: numbers, and how they were measured."""

import math

import numpy as np
import pytest

from tinygpt import GPT, GPTConfig, tokenizers
from tinygpt.__main__ import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer = tokenizers.BPE.train("é🙂abab " * 9, 262)
    model = GPT(GPTConfig(262, 8, n_layer=1, n_head=2, n_embd=8))
    model.wte.weight.data *= 40
    model.save("model", tokenizer)
    (tmp_path / "text.txt").write_bytes("é🙂abab\r\na é🙂".encode() * 5)
    return tokenizer


def test_the_numbers(here, tmp_path, capsys):
    assert main(["perplexity", "model", "text.txt", "--stride", "3"]) == 0
    what, numbers, protocol = capsys.readouterr().out.splitlines()
    text = (tmp_path / "text.txt").read_bytes().decode()
    ids = here.encode_array(text)
    scores = GPT.load("model").score(ids, stride=3)
    size = len(text.encode()) - len(here.decode_bytes(ids[:1]))
    assert what == f"text.txt: {len(ids) - 1:,} tokens, {size:,} bytes"
    assert numbers == (
        f"{-scores.mean():.4f} nats per token, perplexity {math.exp(-scores.mean()):.4g}, "
        f"{-scores.sum() / math.log(2) / size:.4f} bits per byte"
    )
    assert protocol == (
        "scored: every token but the first, once, in windows of 8 that move on by 3, so that each "
        "is given at least 5 tokens before it, or all"
    )


def test_a_uniform_model_takes_all_bits_of_its_vocabulary(tmp_path, capsys):
    tokenizer = tokenizers.Char.train("abcdefgh")
    model = GPT(GPTConfig(8, 4, n_layer=1, n_head=1, n_embd=4))
    model.wte.weight.data[:] = 0
    model.save(tmp_path / "model", tokenizer)
    (tmp_path / "text").write_text("abacadaeaf", encoding="utf-8")
    assert main(["perplexity", str(tmp_path / "model"), str(tmp_path / "text")]) == 0
    printed = capsys.readouterr().out
    assert "9 tokens, 9 bytes" in printed
    assert "2.0794 nats per token, perplexity 8, 3.0000 bits per byte" in printed


def test_a_token_at_the_start_gives_the_first_of_the_text_a_score(tmp_path, capsys):
    """As the tokenizers of Llama put one there."""
    plain = tokenizers.BPE.train("ab" * 9, 258, special_tokens=["<s>"])
    table = plain.to_dict()
    table["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [],
        "special_tokens": {
            "<s>": {"id": "<s>", "ids": [plain.special_tokens["<s>"]], "tokens": ["<s>"]}
        },
    }  # fmt: skip
    tokenizer = tokenizers.from_dict(table)
    model = GPT(GPTConfig(258, 8, n_layer=1, n_head=2, n_embd=8))
    model.save(tmp_path / "model", tokenizer)
    (tmp_path / "text").write_text("abcabc", encoding="utf-8")
    assert main(["perplexity", str(tmp_path / "model"), str(tmp_path / "text")]) == 0
    printed = capsys.readouterr().out
    ids = tokenizer.encode("abcabc", add_special_tokens=True)
    scores = model.score(np.array(ids))
    assert f"{len(ids) - 1} tokens, 6 bytes" in printed
    assert f"{-scores.sum() / math.log(2) / 6:.4f} bits per byte" in printed
    assert "every token but <s> at the start" in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model", "nowhere.txt"], "nowhere.txt: No such file"),
        (["model", "latin1.txt"], "latin1.txt is not UTF-8 text"),
        (
            ["model", "empty.txt"],
            "empty.txt has 0 tokens, and two are the least",
        ),
        (["model", "text.txt", "--stride", "9"], "stride must be between 1 and block_size=8"),
        (["nowhere", "text.txt"], "nowhere is not a folder"),
    ],
)
def test_wrong_arguments_get_a_sentence(here, tmp_path, capsys, arguments, sentence):
    (tmp_path / "latin1.txt").write_bytes("é".encode("latin1"))
    (tmp_path / "empty.txt").touch()
    assert main(["perplexity", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
