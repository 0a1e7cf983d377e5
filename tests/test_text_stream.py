"""Tokens into text: whole characters, up to a stop string."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygpt import tokenizers
from tinygpt.text_stream import text_stream

BYTES = tokenizers.BPE.train("aab" * 20, 258)  # every other character is several tokens
WORDS = tokenizers.WordPiece.train(["unaffable affable un ##able"] * 3, 24)
PIECES = tokenizers.Unigram.train(["to be or not to be"] * 5, 268)
SINGLE_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
FALLBACK = tokenizers.from_dict(
    {
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(("<unk>", *SINGLE_BYTES, "▁", "a"))},
            "merges": [],
            "unk_token": "<unk>",
            "byte_fallback": True,
            "fuse_unk": True,
        },
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
    }
)


# All characters. What text() has by itself is the same, and takes hypothesis seconds to find out.
ANY = st.characters(exclude_categories=["Cs"])


def pieces(text, before="", tokenizer=BYTES, stop=()):
    whole, n = tokenizer.encode(before + text), len(tokenizer.encode(before))
    return list(text_stream(whole[n:], tokenizer.decode, whole[:n], stop))


def test_a_character_comes_when_it_is_whole():
    assert len(BYTES.encode("é€🙂")) == 9
    assert pieces("é€🙂a") == ["é", "€", "🙂", "a"]


def test_what_is_no_character_is_shown_when_it_cannot_become_one():
    broken = [0xF0, 0x9F, ord("a"), ord("b"), 0xC3]
    ids = [BYTES.tokens.index(bytes([b])) for b in broken]
    found = list(text_stream(ids, BYTES.decode))
    assert found == ["\ufffda", "b", "\ufffd"]
    assert "".join(found) == BYTES.decode(ids)


@given(st.text(ANY, max_size=9), st.text("ab é€🙂\n", max_size=9))
def test_the_pieces_are_the_text_of_bytes(before, text):
    found = list(text_stream(BYTES.encode(text), BYTES.decode, BYTES.encode(before)))
    assert "".join(found) == text
    assert all(found)


@given(st.text("a é€🙂", min_size=1, max_size=9), st.text("a é€🙂", max_size=9))
def test_the_pieces_are_the_text_of_pieces_with_bytes(before, text):
    """Also where the decoder drops the space at the start of what it is given."""
    for split in (len(before), 0):
        whole = before + text
        ids = FALLBACK.encode(whole)
        n = len(FALLBACK.encode(whole[:split])) if split else 0
        shown = FALLBACK.decode(ids[:n])
        assert shown + "".join(text_stream(ids[n:], FALLBACK.decode, ids[:n])) == whole


@pytest.mark.parametrize("tokenizer", [WORDS, PIECES], ids=["WordPiece", "Unigram"])
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=12), st.integers(0, 12))
def test_any_ids_give_what_they_give_together(tokenizer, ids, n):
    words = [i for i, token in enumerate(tokenizer.tokens) if not token.startswith("<0x")]
    ids = [words[i % len(words)] for i in ids]
    before = tokenizer.decode(ids[:n])
    text = "".join(text_stream(ids[n:], tokenizer.decode, ids[:n]))
    assert before + text == tokenizer.decode(ids)


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one two", ["two"], "one "),
        ("one two", ["three"], "one two"),
        ("one two", ["two", "ne"], "o"),
        ("one tw", ["two"], "one tw"),
        ("aaab", ["aab"], "a"),
        ("ababac", ["abac"], "ab"),
        ("one\n\ntwo", ["\n\n"], "one"),
        ("é🙂a", ["🙂"], "é"),
        ("stop at once", ["stop"], ""),
    ],
)
def test_stop_strings(text, stop, expected):
    for tokenizer in (BYTES, tokenizers.Char.train(text)):
        assert "".join(pieces(text, tokenizer=tokenizer, stop=stop)) == expected


def test_only_what_may_be_the_start_of_a_stop_string_is_held_back():
    tokenizer = tokenizers.Char.train("xabyc!")
    assert pieces("xabyabc!", tokenizer=tokenizer, stop=["abc"]) == ["x", "aby"]


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1), max_size=3))
def test_stop_strings_by_find(text, stop):
    """However the text is cut into tokens."""
    places = [(text.find(string) + len(string), text.find(string)) for string in stop]
    _, end = min([place for place in places if place[1] >= 0], default=(0, len(text)))
    for tokenizer in (tokenizers.Char.train("ab"), BYTES):
        assert "".join(pieces(text, tokenizer=tokenizer, stop=stop)) == text[:end]


def test_no_token_is_taken_after_a_stop_string():
    tokens = itertools.cycle(BYTES.encode("xyz"))
    assert list(text_stream(tokens, BYTES.decode, (), ["z"])) == ["x", "y"]
    assert next(tokens) == BYTES.encode("x")[0]


@pytest.mark.parametrize("stop", [[""], [3]])
def test_what_cannot_stop(stop):
    with pytest.raises(ValueError, match="at least one character"):
        text_stream([], BYTES.decode, (), stop)
