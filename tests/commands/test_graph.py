"""python -m tinygpt graph: the files it writes, and what it says to mistakes."""

from xml.etree import ElementTree

import pytest

from tinygpt import GPT, GPTConfig
from tinygpt.__main__ import main


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_draws_a_small_gpt(here, capsys):
    assert main(["graph"]) == 0
    picture = (here / "graph.svg").read_text(encoding="utf-8")
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert picture.count("<rect") == 37
    assert "h.0.attn.c_attn.weight" in picture
    printed = capsys.readouterr().out
    assert printed.startswith("graph.svg: 21 ops and 16 parameters; what backward keeps takes ")
    assert printed.count("\n") == 1


def test_the_suffix_is_the_format_and_layers_can_be_chosen(here, capsys):
    assert main(["graph", "--out", "two.dot", "--n-layer", "2"]) == 0
    text = (here / "two.dot").read_text(encoding="utf-8")
    assert text.startswith("digraph {")
    assert "h.1.attn.c_attn.weight" in text
    assert "h.2." not in text
    assert capsys.readouterr().out.startswith("two.dot: 36 ops and 28 parameters")


def test_it_draws_a_saved_model(here, capsys):
    config = GPTConfig(7, 3, n_layer=1, n_head=2, n_embd=4, bias=False, activation="relu2")
    GPT(config).save("model")
    assert main(["graph", "model"]) == 0
    picture = (here / "graph.svg").read_text(encoding="utf-8")
    assert "relu2" in picture
    assert "shape (7, 4)" in picture


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "graph.png"], "--out should end in .svg or .dot, and graph.png does not"),
        (["--out", "graph"], "--out should end in .svg or .dot"),
        (["--n-layer", "0"], "n_layer must be a whole number from 1 up, not 0"),
        (["nowhere"], "nowhere is not a folder"),
        (["model", "--n-layer", "2"], "leave --n-layer out"),
        (["--out", "no/graph.svg"], "no/graph.svg"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, sentence, here, capsys):
    assert main(["graph", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in printed.err
    assert printed.err.count("\n") == 1
    assert list(here.iterdir()) == []


def test_help_says_what_it_does(capsys):
    with pytest.raises(SystemExit) as end:
        main(["graph", "--help"])
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert "--n-layer" in printed
    assert ".svg or .dot" in printed
