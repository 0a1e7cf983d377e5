"""Files larger than memory, many texts, several processes: the same as one text in one go."""

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_strings import END, REAL, any_text

from tinygpt import tokenizers
from tinygpt.tokenizers import BPE, Char, bpe_many, word_numbers, words
from tinygpt.tokenizers.bpe import words_around
from tinygpt.tokenizers.patterns import cut_of
from tinygpt.tokenizers.words import read_blocks, whole_words

PATTERNS = ["gpt2", "gpt4", "gpt4o", "qwen2", "none", r"\w+|[^\w\s]"]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "BLOCK", 100)  # bytes: several times through every loop
    file = tmp_path / "corpus.txt"
    file.write_bytes((REAL * 3).encode())
    return file


@settings(max_examples=60)
@given(st.lists(any_text, max_size=8), st.sampled_from(PATTERNS))
@example(["it", "'s a", " \n", "\n b", "1", "2345"], "gpt4o")
def test_no_word_is_cut_in_two(blocks, pattern):
    text = "".join(blocks)
    split = words_around(pattern, [END])
    for cut in (cut_of(pattern, [END]), None):
        pieces = list(whole_words(blocks, split, cut))
        assert "".join(pieces) == text
        assert [word for piece in pieces for word in split(piece)] == split(text)


def test_a_special_token_is_not_cut_in_two():
    text = "some text <|fim middle|> more text " * 20
    for specials in (["<|fim middle|>"], ["e t"]):
        split = words_around("gpt2", specials)
        pieces = list(whole_words(text, split, cut_of("gpt2", specials)))
        assert len(pieces) > 1
        assert [word for piece in pieces for word in split(piece)] == split(text)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_blocks_of_a_file_are_its_text(tmp_path, size):
    file = tmp_path / "text"
    file.write_bytes(REAL.encode())
    assert "".join(read_blocks(file, size)) == REAL
    file.write_bytes(b"")
    assert list(read_blocks(file, size)) == []


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_file_that_is_not_utf8_is_named_with_the_place(tmp_path, size):
    file = tmp_path / "latin.txt"
    for content, place in (("é".encode() * 4 + b"caf\xe9 au", 11), (b"cut \xf0\x9f\x99", 4)):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"latin\.txt: not UTF-8 at byte {place} "):
            list(read_blocks(file, size))
    with pytest.raises(ValueError, match="not UTF-8 at byte 4 "):
        BPE.train(file, 300)
    with pytest.raises(FileNotFoundError):
        BPE.train(tmp_path / "missing", 300)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_training_on_a_file_is_training_on_its_text(corpus, pattern):
    expected = BPE.train(REAL * 3, 400, pattern, [END])
    assert BPE.train(corpus, 400, pattern, [END]).to_dict() == expected.to_dict()
    assert Char.train(corpus).characters == Char.train(REAL).characters


def test_training_on_several_processes(corpus):
    expected = BPE.train(REAL * 3, 400, special_tokens=[END]).to_dict()
    trained = BPE.train(corpus, 400, special_tokens=[END], processes=2, progress=True)
    assert trained.to_dict() == expected
    lines = REAL.splitlines(keepends=True) * 3
    assert BPE.train(lines, 400, processes=2).to_dict() == BPE.train(lines, 400).to_dict()


def test_min_frequency():
    text = "ab ab ab cd cd ef"
    assert BPE.train(text, 400, "gpt2", min_frequency=2).vocab_size == 256 + 4
    assert BPE.train(text, 259, "gpt2", min_frequency=2).tokens[256:] == [b"ab", b" c", b" ab"]
    with pytest.raises(ValueError, match="min_frequency=0"):
        BPE.train(text, 259, min_frequency=0)
    with pytest.raises(ValueError, match="processes=0"):
        BPE.train(text, 259, processes=0)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_batch_is_each_text_in_turn(processes):
    tokenizer = BPE.train(REAL, 400, special_tokens=[END])
    texts = [*REAL.splitlines(), "", "a" + END]
    batch = tokenizer.encode_batch(texts, allowed_special="all", processes=processes)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(text, "all") for text in texts]
    with pytest.raises(ValueError, match="special token"):
        tokenizer.encode_batch(texts, processes=processes)


@pytest.mark.parametrize(("kind", "processes"), [(BPE, 1), (BPE, 2), (Char, 1)])
def test_a_file_of_text_becomes_a_file_of_ids(corpus, tmp_path, kind, processes):
    tokenizer = BPE.train(REAL, 400, "gpt4") if kind is BPE else Char.train(REAL)
    expected = tokenizer.encode_array(REAL * 3)
    count = tokenizer.encode_file(corpus, tmp_path / "ids.bin", processes=processes)
    assert count == len(expected)
    ids = np.fromfile(tmp_path / "ids.bin", tokenizer.dtype)
    np.testing.assert_array_equal(ids, expected)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["corpus.txt", "ids.bin"]


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(words, "BLOCK", 1 << 12)
    monkeypatch.setattr(bpe_many, "NUMBERS", 1 << 11)
    monkeypatch.setattr(word_numbers, "NUMBERS", 1 << 11)
    file = tmp_path / "text"
    trained = BPE.train(REAL, 400)

    def peak(size):
        """Of encoding a file of so many characters, and of learning from it."""
        rng = random.Random(0)
        some = " ".join("".join(rng.choices("etaoi", k=4)) for _ in range(size // 6))
        file.write_text(some, "utf-8")
        tokenizer = BPE(trained.tokens, trained.merges)
        del some
        tracemalloc.start()
        tokenizer.encode_file(file, tmp_path / "ids.bin")
        encoding = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        BPE.train(file, 300)
        learning = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return encoding, learning

    small, large = peak(15_000), peak(90_000)
    assert large[0] < 1.1 * small[0]
    assert large[1] < 1.5 * small[1]  # there are more different words


def test_a_file_that_cannot_be_encoded_leaves_nothing_behind(corpus, tmp_path):
    corpus.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not UTF-8"):
        BPE.train("", 256).encode_file(corpus, tmp_path / "ids.bin")
    assert [f.name for f in tmp_path.iterdir()] == ["corpus.txt"]


def test_a_tokenizer_goes_into_another_process():
    tokenizer = BPE.train(REAL, 300, r"\w+|\W", special_tokens=[END])
    make, arguments = tokenizer.__reduce__()
    assert make(*arguments).to_dict() == tokenizers.from_dict(tokenizer.to_dict()).to_dict()
