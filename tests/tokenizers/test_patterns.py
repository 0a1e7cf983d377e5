"""Patterns: the fast way gives what `regex` gives, and a bad one of the user's is found out."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_strings import REAL, any_text

from tinygpt.tokenizers import BPE, patterns
from tinygpt.tokenizers.patterns import NAMED, beginner, compiled, cut_of, split

OURS = [name for name in NAMED if name != "none"]
bmp_text = any_text.map(lambda text: re.sub("[\U00010000-\U0010ffff]", "", text))


@settings(max_examples=50)
@given(text=any_text)
@example(REAL)
@example("".join(map(chr, range(0x300))))
@example("it'ſ IT'ſ 'ſ")
def test_the_fast_way_finds_the_same_words(text):
    for name in OURS:
        for some in (text, re.sub("[\U00010000-\U0010ffff]", "", text), ascii(text)):
            assert split(name, some) == compiled(name).findall(some), name


def test_every_character_is_of_the_same_class_the_fast_way():
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x10000)]))
    for name in OURS:
        assert split(name, every) == compiled(name).findall(every)
        text = "".join([c + " a"[ord(c) % 2] for c in every])
        assert split(name, text) == compiled(name).findall(text)


@settings(max_examples=150)
@given(st.lists(st.sampled_from([*"  ''stmdrevlS\n\t19.!é\u00a0你🙂", "'ll", " 're"])).map("".join))
@example("")
@example("'")
@example("x'r 've''ll'l'd's")
@example("a  b \n c\n\nd \u3000e  ")
def test_where_words_begin(text):
    for name in OURS:
        begins = np.zeros(len(text), bool)
        begins[np.cumsum([0, *map(len, compiled(name).findall(text))])[:-1]] = True
        assert (beginner(name)(text) == begins).all(), name


def test_where_words_begin_for_every_character():
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000)]))
    for text in (every, "".join([c + " a1'"[ord(c) % 4] for c in every])):
        ends = np.cumsum([len(word) for word in compiled("gpt2").findall(text)])
        assert (np.flatnonzero(beginner("gpt2")(text))[1:] == ends[:-1]).all()


@given(any_text, any_text, st.sampled_from(OURS))
def test_where_a_text_may_be_cut(before, after, name):
    text = before + after
    cut = cut_of(name).search(before)
    if cut:
        at = cut.start()
        assert split(name, text[:at]) + split(name, text[at:]) == split(name, text)


def test_a_pattern_that_matches_nothing():
    for pattern in ("[0-9]", "(?!)", r"\b", "x*"):
        with pytest.raises(ValueError, match=re.escape(f"pattern={pattern!r} matches nothing")):
            BPE.train("some words", 257, pattern)
    assert BPE.train("some 1 word", 257, "[0-9]").encode("") == []
    assert BPE.train("", 256, "[0-9]").vocab_size == 256


def test_a_pattern_that_takes_forever(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    with pytest.raises(ValueError, match=r"pattern='\(\?:a\|aa\)\+\$' .* a repeat inside a repeat"):
        split("(?:a|aa)+$", "a" * 60 + "!")
