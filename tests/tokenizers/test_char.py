"""Char: every character is a token, and an unseen one is an error that shows it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygpt import tokenizers
from tinygpt.tokenizers import Char

TEXT = "Hear me speak.\nÇa va? 🙂 \0\r\n"
any_text = st.text(st.characters(exclude_categories=["Cs"]))  # all but halves of surrogate pairs


def test_by_hand():
    tokenizer = Char.train("cabbage")
    assert tokenizer.characters == "abceg"
    assert tokenizer.vocab_size == 5
    assert tokenizer.encode("bag") == [1, 0, 4]
    assert tokenizer.decode([2, 0, 4, 3]) == "cage"
    assert tokenizer.decode_bytes([1, 0]) == b"ba"
    assert repr(tokenizer) == "Char(vocab_size=5)"


@settings(deadline=None)
@given(any_text.filter(bool))
@example("🙂" + "a\0é")
def test_lossless(text):
    tokenizer = Char.train(text)
    assert list(tokenizer.characters) == sorted(set(text))
    ids = tokenizer.encode(text)
    assert all(type(i) is int for i in ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8")
    np.testing.assert_array_equal(tokenizer.encode_array(text), ids)


def test_an_iterable_of_texts_is_one_vocabulary():
    assert Char.train(iter(["cab", "", "bage"])).characters == Char.train("cabbage").characters


def test_array_is_as_narrow_as_the_vocabulary_allows():
    assert Char.train("ab").encode_array("abba").dtype == np.uint16
    many = "".join(map(chr, range(0x10000, 0x10000 + 65536)))
    assert Char(many).encode_array(many)[-1] == 65535
    assert Char(many).encode_array(many).dtype == np.uint16
    assert Char(many + "a").encode_array("a").dtype == np.uint32
    assert Char(many + "a").encode("a") == [65536]


def test_empty_text():
    tokenizer = Char.train("ab")
    assert tokenizer.encode("") == []
    assert tokenizer.encode_array("").dtype == np.uint16
    assert tokenizer.decode([]) == ""


@pytest.mark.parametrize("unseen", ["é", "c", "🙂", "\x00", "\U0010ffff"])
def test_unseen_character_is_shown_with_its_place(unseen):
    with pytest.raises(ValueError, match="train on text that has it") as error:
        Char.train("ab\n").encode("ab\nba\naa" + unseen + "b\nb" + unseen)
    assert f"{unseen!r} (U+{ord(unseen):04X}) at offset 8 (line 3, column 3)" in str(error.value)


@pytest.mark.parametrize("code", [0xD83D, 0xDE42])
def test_half_a_surrogate_pair_is_refused(code):
    half = chr(code)
    message = rf"U\+{code:04X}, at offset 2 \(line 2, column 1\)"
    with pytest.raises(ValueError, match=message):
        Char.train("a\n" + half)
    with pytest.raises(ValueError, match=message):
        Char.train("a\n").encode("a\n" + half)


@pytest.mark.parametrize("ids", [[0, 2], [-1], np.array([0, 1, 300]), [2**40]])
def test_ids_out_of_range(ids):
    with pytest.raises(ValueError, match="ids run from 0 to 1"):
        Char.train("ab").decode(ids)


@pytest.mark.parametrize("ids", [[0.0], 1, [[0, 1]], "ab"])
def test_ids_that_are_no_list_of_integers(ids):
    with pytest.raises(TypeError, match="one-dimensional sequence of integers"):
        Char.train("ab").decode(ids)


def test_wrong_arguments():
    with pytest.raises(TypeError, match="not bytes"):
        Char.train(b"ab")
    with pytest.raises(TypeError, match="not bytes"):
        Char.train("ab").encode(b"ab")
    with pytest.raises(ValueError, match="at least one character"):
        Char.train([])
    with pytest.raises(ValueError, match="only once"):
        Char("aba")


def test_there_are_no_special_tokens_to_allow():
    tokenizer = Char.train("ab")
    assert tokenizer.encode("ab", allowed_special="all") == [0, 1]
    with pytest.raises(ValueError, match="<end>"):
        tokenizer.encode("ab", allowed_special=["<end>"])


def test_save_and_load(tmp_path):
    tokenizer = Char.train(TEXT)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(str(tmp_path / "tokenizer.json"))
    assert isinstance(loaded, Char)
    assert loaded.characters == tokenizer.characters
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    assert "🙂" in (tmp_path / "tokenizer.json").read_text(encoding="utf-8")  # and not \\ud83d


def test_a_dict_can_stand_in_another_file():
    tokenizer = Char.train(TEXT)
    text = json.dumps({"tokenizer": tokenizer.to_dict()})
    assert tokenizers.from_dict(json.loads(text)["tokenizer"]).characters == tokenizer.characters


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "tokenizer.json"
    Char.train("old").save(file)

    def full(_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        Char.train("new").save(file)
    assert tokenizers.load(file).characters == "dlo"
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda d: d.clear(), "model"),
        (lambda d: d.update(model=[]), "model"),
        (lambda d: d["model"].update(type="Surprise"), "model.type"),
        (lambda d: d["model"].update(extra=1), "model.extra"),
        (lambda d: d["model"].update(vocab=None), "model.vocab"),
        (lambda d: d["model"].update(vocab={"a": 0, "b": 2}), "model.vocab"),
        (lambda d: d["model"].update(vocab={"a": 0, "b": 0}), "model.vocab"),
        (lambda d: d["model"].update(vocab={"a": 0, "b": 1.0}), "model.vocab"),
        (lambda d: d["model"].update(vocab={"a": 0, "b": True}), "model.vocab"),
        (lambda d: d["model"].update(vocab={"a": 0, "b": -1}), "model.vocab"),
        (lambda d: d["model"].update(vocab={"a": 0, "word": 1}), "model.vocab"),
        (lambda d: d["model"].update(unk_token="a"), "model.unk_token"),
        (lambda d: d.update(normalizer={"type": "NFC"}), "normalizer"),
        (lambda d: d.update(truncation={"max_length": 5}), "truncation"),
        (lambda d: d.update(padding={"length": 5}), "padding"),
        (lambda d: d.update(added_tokens=[{"id": 2, "content": "<end>"}]), "added_tokens"),
        (lambda d: d.update(pre_tokenizer={"type": "Whitespace"}), "pre_tokenizer"),
        (lambda d: d.update(post_processor={"type": "ByteLevel"}), "post_processor"),
        (lambda d: d.update(decoder=None), "decoder"),
        (lambda d: d.update(surprise=1), "surprise"),
    ],
)
def test_what_a_file_asks_for_and_we_lack_is_an_error_that_names_it(tmp_path, edit, field):
    d = Char.train("ab").to_dict()
    edit(d)
    file = tmp_path / "odd.json"
    file.write_text(json.dumps(d), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"odd\.json: {field} "):
        tokenizers.load(file)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"a": "\xff"}', b"[" * 100_000, b"[]", b"null"]
)
def test_broken_files(tmp_path, content):
    file = tmp_path / "broken.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.json: "):
        tokenizers.load(file)


def test_import_does_not_wait_for_regex():
    code = "import sys, tinygpt.tokenizers; sys.exit('regex' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


class TestAgainstTokenizers:
    """The saved file, read by the `tokenizers` package."""

    @pytest.fixture
    def theirs(self, tmp_path):
        # .models: where the package is missing, the folder of this test has its name
        pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
        from tokenizers import Tokenizer

        def load(tokenizer):
            tokenizer.save(tmp_path / "tokenizer.json")
            return Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

        return load

    def test_same_ids_and_text(self, theirs):
        every = "".join(map(chr, [*range(0x3000), *range(0x1F600, 0x1F650), 0xFEFF, 0x10FFFF]))
        for text in (TEXT, "  \n\n\t ", every):
            ours = Char.train(text)
            peer = theirs(ours)
            assert peer.encode(text).ids == ours.encode(text)
            assert peer.decode(ours.encode(text)) == text
            assert peer.get_vocab_size() == ours.vocab_size

    def test_an_unseen_character_is_an_error_there_too(self, theirs):
        with pytest.raises(Exception, match="Missing"):
            theirs(Char.train("ab")).encode("abc")


def test_a_file_without_characters_is_an_error_that_names_it():
    d = Char("ab").to_dict()
    d["model"]["vocab"] = {}
    with pytest.raises(ValueError, match=r"^damaged\.json: model\.vocab is empty"):
        Char.from_dict(d, source="damaged.json")
