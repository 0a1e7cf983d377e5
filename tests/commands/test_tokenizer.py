"""python -m tinygpt tokenizer: each action does what it says."""

import numpy as np
import pytest

from tinygpt import tokenizers
from tinygpt.__main__ import main

TEXT = "the cat sat on the mat; the hat sat on the cat\n" * 30 + "naïve 🙂\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "text.txt").write_bytes(TEXT.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "size", "back"),
    [
        ("bpe", 270, TEXT),
        ("char", 1, TEXT),
        ("wordpiece", 28, None),
        ("unigram", 290, " ".join(TEXT.split())),
    ],
)
def test_train_encode_decode(files, capsys, kind, size, back):
    names = {name: str(files / name) for name in ("text.txt", "t.json", "ids", "back.txt")}
    train = ["tokenizer", "train", names["text.txt"], "--out", names["t.json"], "--kind", kind]
    assert main([*train, "--vocab-size", str(size)]) == 0
    tokenizer = tokenizers.load(names["t.json"])
    assert repr(tokenizer) in capsys.readouterr().out

    encode = ["tokenizer", "encode", names["t.json"], names["text.txt"], "--out", names["ids"]]
    assert main(encode) == 0
    ids = np.fromfile(names["ids"], tokenizer.dtype)
    assert ids.tolist() == tokenizer.encode(TEXT)
    assert f"{len(ids)} ids of uint16" in capsys.readouterr().out

    decode = ["tokenizer", "decode", names["t.json"], names["ids"], "--out", names["back.txt"]]
    assert main(decode) == 0
    decoded = (files / "back.txt").read_bytes().decode()
    assert decoded == (tokenizer.decode(ids) if back is None else back)


def test_inspect(files, capsys):
    tokenizers.BPE.train("the cat sat on the mat", 259).save(files / "t.json")
    inspect = ["tokenizer", "inspect", str(files / "t.json"), "the <hat>"]
    assert main(inspect) == 0
    out = capsys.readouterr().out
    assert "the| |<|h|at|>" in out
    assert "t|h|e  ->  t|he  ->  the" in out
    assert main([*inspect, "--html", str(files / "page.html")]) == 0
    page = (files / "page.html").read_text("utf-8")
    assert 'title="id 258">the</span>' in page
    assert ">&lt;</span>" in page


def test_compare(files, capsys):
    parts = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
    text = " ".join(x + y for x in parts for y in parts[::7]) * 3
    (files / "text.txt").write_text(text, "utf-8")
    assert main(["tokenizer", "compare", str(files / "text.txt"), "--vocab-size", "300"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    bpe = next(line for line in lines if line.startswith("| bpe gpt2 "))
    assert "| yes | 300 | 0.00% |" in bpe
    assert main(["tokenizer", "compare", str(files / "text.txt"), "--vocab-size", "260"]) == 0
    assert "unigram: vocab_size=260 is too small" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.txt", "--out", "x"], "missing.txt"),
        (["inspect", "missing.json", "a"], "missing.json"),
    ],
)
def test_what_cannot_be_done_is_said(capsys, arguments, message):
    assert main(["tokenizer", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_half_an_id(files, capsys):
    tokenizers.Char.train("ab").save(files / "t.json")
    (files / "ids").write_bytes(b"\0\0\0")
    decode = ["tokenizer", "decode", str(files / "t.json"), str(files / "ids"), "--out", "x"]
    assert main(decode) == 1
    assert "not a whole number of ids" in capsys.readouterr().err
