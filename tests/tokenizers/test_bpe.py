"""BPE: lossless, the textbook's merges, and the ids of tiktoken and tokenizers."""

import copy
import doctest
import json
import random
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinygpt import backend, tokenizers
from tinygpt.tokenizers import BPE, bpe, bpe_textbook, cache
from tinygpt.tokenizers.bpe_train import learn_merges
from tinygpt.tokenizers.patterns import NAMED, split

END = "<|endoftext|>"
PATTERNS = [*NAMED, r"\w+|[^\w\s]"]  # the last leaves the blanks between its matches
CORPUS = """
First Citizen: Before we proceed any further, hear me speak. I'll speak; they'VE heard, haven't
they?  We are accounted poor citizens, the patricians good: 1999, 12345 or 3.14159!   \t
    def f(x):\r\n        return x_1 + "héllo"\n\n\n
Ça coûte où? Größe, straße; Съешь ещё этих мягких французских булок. Τι κάνεις; שלום עולם
مرحبا بالعالم नमस्ते दुनिया สวัสดี 你好，世界。こんにちは世界 안녕하세요
👩\u200d👩\u200d👧 🙂🏽 e\u0301 \u00a0\u2003.
"""

# Any text, also of characters that random sampling would hardly ever put side by side. Of all
# characters those that Unicode 3.2 had: about newer ones the libraries do not yet agree.
characters = st.characters(exclude_categories=["Cs", "Cn"]).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn"
)
chunks = st.sampled_from(
    [*CORPUS.split(" "), *" \n\t\r'", "\r\n", "  ", "'s", "'LL", "\0", "🙂", END]
)
examples = settings(deadline=None)
per_pattern = settings(deadline=None, max_examples=40)
any_text = st.lists(chunks | st.text(characters, max_size=5), max_size=20).map("".join)


@pytest.fixture(scope="module", params=PATTERNS)
def tokenizer(request):
    return BPE.train(CORPUS, 400, request.param, special_tokens=[END, "<pad>"])


def test_by_hand():
    # gpt2's words: "the" " cat" " sat" " on" " the" " mat". "at" is there 3 times and merged first.
    # Now "th" and "he" are there twice. "h" is 104 and "t" 116, so "he" is the smaller pair.
    # Then only "t" + "he" is there twice. Of all the pairs left, " " + "c" is the smallest.
    tokenizer = BPE.train("the cat sat on the mat", vocab_size=260)
    assert tokenizer.tokens[256:] == [b"at", b"he", b"the", b" c"]
    assert tokenizer.merges == {(97, 116): 256, (104, 101): 257, (116, 257): 258, (32, 99): 259}
    assert tokenizer.tokens[:256] == [bytes([byte]) for byte in range(256)]
    assert tokenizer.encode("the hat") == [258, ord(" "), ord("h"), 256]
    assert tokenizer.decode([259, 256]) == " cat"
    assert repr(tokenizer) == "BPE(vocab_size=260, pattern='gpt2')"


def test_the_readme_says_what_the_code_does():
    readme = Path(tokenizers.__file__).with_name("README.md").read_text(encoding="utf-8")
    examples = re.sub("^```.*", "", readme, flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(examples, {}, "README.md", "README.md", 0)
    assert len(test.examples) > 5
    assert doctest.DocTestRunner().run(test).failed == 0


# ---- the textbook -------------------------------------------------------------------------------


short_words = st.text("ab", min_size=1, max_size=12) | st.text("aé🙂 ", min_size=1, max_size=6)


@examples
@given(st.dictionaries(short_words, st.integers(1, 4), max_size=8), st.integers(0, 30), short_words)
@example({"aaa": 1}, 5, "aaaaa")
def test_merges_are_the_textbooks(words, n_merges, other):
    merges = learn_merges(words, n_merges)
    assert list(merges.items()) == list(bpe_textbook.learn_merges(words, n_merges).items())
    for word in (*words, other):
        letters = list(word.encode())
        expected = bpe_textbook.apply_merges(letters, merges)
        assert bpe.apply_merges_to_many(letters, merges, merges) == expected
        assert bpe.apply_merges(letters, merges, merges) == expected


def test_no_two_tokens_are_the_same_bytes(tokenizer):
    assert len(set(tokenizer.tokens[:-2])) == tokenizer.vocab_size - 2


# ---- text to ids and back -----------------------------------------------------------------------


@per_pattern
@given(text=any_text)
@example(text="")
@example(text="  \n ")
def test_lossless(tokenizer, text):
    ids = tokenizer.encode(text, allowed_special="all")
    assert all(type(i) is int for i in ids)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8")
    np.testing.assert_array_equal(tokenizer.encode_array(text, "all"), ids)


@per_pattern
@given(ids=st.lists(st.integers(0, 399)))
def test_any_ids_decode(tokenizer, ids):
    assert tokenizer.decode_bytes(ids) == b"".join(tokenizer.tokens[i] for i in ids)
    assert isinstance(tokenizer.decode(ids), str)


def test_ids_that_break_off_inside_a_character():
    tokenizer = BPE.train("", 256)
    ids = tokenizer.encode("a🙂")
    assert tokenizer.decode(ids[:-1]) == "a\ufffd"
    assert tokenizer.decode(ids[:-1], errors="ignore") == "a"
    with pytest.raises(UnicodeDecodeError):
        tokenizer.decode(ids[:-1], errors="strict")


@pytest.mark.parametrize("ids", [[0, 256], [-1], np.array([0, 1, 300])])
def test_ids_out_of_range(ids):
    with pytest.raises(ValueError, match="ids run from 0 to 255"):
        BPE.train("", 256).decode(ids)


def test_a_long_run_of_one_character():
    run = "a" * 100_000
    tokenizer = BPE.train(run, 256 + 5)
    assert tokenizer.tokens[256:] == [b"a" * 2, b"a" * 4, b"a" * 8, b"a" * 16, b"a" * 32]
    assert tokenizer.encode(run) == [260] * 3125


def test_array_is_as_narrow_as_the_vocabulary_allows():
    assert BPE.train("ab", 257).encode_array("abc").dtype == np.uint16
    assert BPE.train("ab", 257).encode_array("").dtype == np.uint16
    tokens = [bytes([byte]) for byte in range(256)] + [b"%d" % i for i in range(256, 65536)]
    assert BPE(tokens, merges={(97, 98): 65535}).encode_array("ab").tolist() == [65535]
    assert BPE(tokens, merges={}).encode_array("ab").dtype == np.uint16
    assert BPE([*tokens, b"ab"], merges={(97, 98): 65536}).encode_array("ab").tolist() == [65536]
    assert BPE([*tokens, b"ab"], merges={}).encode_array("ab").dtype == np.uint32


def test_the_word_cache_has_a_bound(monkeypatch):
    monkeypatch.setattr(cache, "CACHE_WORDS", 3)
    monkeypatch.setattr(cache, "CACHE_LENGTH", 4)
    tokenizer = BPE.train(CORPUS, 300)
    expected = [i for word in split("gpt2", CORPUS) for i in tokenizer.encode(word)]
    assert len(CORPUS) < bpe.LONG
    for _ in range(2):
        assert tokenizer.encode(CORPUS) == expected
        assert 0 < len(tokenizer._cache) <= 3
    tokenizer.encode("four fives")
    assert list(tokenizer._cache)[-1] == "four"


@pytest.mark.parametrize("code", [0xD83D, 0xDE42])
def test_half_a_surrogate_pair_is_refused(code):
    half = chr(code)
    message = rf"U\+{code:04X}, at offset 2 \(line 2, column 1\)"
    with pytest.raises(ValueError, match=message):
        BPE.train("a\n" + half, 256)
    with pytest.raises(ValueError, match=message):
        BPE.train("", 256).encode("a\n" + half)


# ---- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("gpt2", ["I", "'ll", " pay", " 12345", "  ", " €", "\n", "THEY", "'", "LL", "!?"]),
        ("gpt4", ["I", "'ll", " pay", " ", "123", "45", "  ", " €\n", "THEY", "'LL", "!?"]),
        ("gpt4o", ["I'll", " pay", " ", "123", "45", "  ", " €\n", "THEY'LL", "!?"]),
        ("none", ["I'll pay 12345   €\nTHEY'LL!?"]),
        (r"\w+", ["I", "'", "ll", " ", "pay", " ", "12345", "   €\n", "THEY", "'", "LL", "!?"]),
    ],
)
def test_split(pattern, words):
    assert split(pattern, "I'll pay 12345   €\nTHEY'LL!?") == words


def test_where_the_patterns_part():
    assert split("gpt2", "I'LLx !\n/y") == ["I", "'", "LLx", " !", "\n", "/", "y"]
    assert split("gpt4", "I'LLx !\n/y") == ["I", "'LL", "x", " !\n", "/y"]
    assert split("gpt4o", "I'LLx !\n/y") == ["I'LL", "x", " !\n/", "y"]
    assert split("gpt4", "camelCase") == ["camelCase"]
    assert split("gpt4o", "camelCase") == ["camel", "Case"]


@examples
@given(any_text, st.sampled_from([*PATTERNS, r"(\s)(?=\w)", "a*", r"\b"]))
def test_words_joined_are_the_text(text, pattern):
    words = split(pattern, text)
    assert "".join(words) == text
    assert all(words)


@pytest.mark.parametrize("pattern", ["gpt3", "GPT2", "", "(a", "[a-"])
def test_wrong_patterns(pattern):
    with pytest.raises(ValueError, match=re.escape(f"pattern={pattern!r}")):
        BPE.train("ab", 257, pattern)


# ---- training -----------------------------------------------------------------------------------


def test_the_order_of_the_corpus_does_not_matter():
    lines = CORPUS.splitlines(keepends=True) * 2
    expected = BPE.train(iter(lines), 400).to_dict()
    for seed in range(5):
        random.Random(seed).shuffle(lines)
        assert BPE.train(lines, 400).to_dict() == expected


def test_no_word_reaches_from_one_string_into_the_next():
    assert BPE.train("abab", 258, "none").tokens[256:] == [b"ab", b"abab"]
    with pytest.raises(ValueError, match="try vocab_size=257"):
        BPE.train(["ab", "ab"], 258, "none")


@pytest.mark.parametrize("vocab_size", [-1, 255, 257])
def test_a_vocabulary_too_small(vocab_size):
    with pytest.raises(ValueError, match="256 bytes and 2 special tokens make 258"):
        BPE.train("ab", vocab_size, special_tokens=[END, "<pad>"])


def test_a_vocabulary_too_large_for_the_text():
    with pytest.raises(ValueError, match="try vocab_size=259"):
        BPE.train("abc", 300, special_tokens=[END])
    assert BPE.train("abc", 259, special_tokens=[END]).vocab_size == 259


def test_wrong_arguments():
    for wrong in (b"ab", [b"ab"]):
        with pytest.raises(TypeError, match="not bytes"):
            BPE.train(wrong, 256)
    with pytest.raises(TypeError, match="not bytes"):
        BPE.train("", 256).encode(b"ab")
    with pytest.raises(TypeError, match="collection"):
        BPE.train("ab", 300, special_tokens=END)
    for wrong in ([""], [END, END]):
        with pytest.raises(ValueError, match="empty or given twice"):
            BPE.train("ab", 300, special_tokens=wrong)
    with pytest.raises(ValueError, match=r"special token 'Ġ' .* try '<\|Ġ\|>'"):
        BPE.train("ab", 257, special_tokens=["Ġ"])


# ---- special tokens -----------------------------------------------------------------------------


def test_special_tokens_are_refused_unless_allowed():
    tokenizer = BPE.train("ab", 259, special_tokens=[END, "<pad>"])
    assert tokenizer.special_tokens == {END: 257, "<pad>": 258}
    text = f"ab\n{END}ab<pad>"
    with pytest.raises(ValueError, match=re.escape(f"{END!r} at offset 3 (line 2, column 1)")):
        tokenizer.encode(text)
    with pytest.raises(ValueError, match=r"'<pad>' at offset 18 .*allowed_special=\['<pad>'\]"):
        tokenizer.encode(text, allowed_special={END})
    ids = tokenizer.encode(text, allowed_special=[END, "<pad>"])
    assert ids == tokenizer.encode(text, allowed_special="all") == [256, 10, 257, 256, 258]
    assert tokenizer.decode(ids) == text
    with pytest.raises(TypeError, match="collection"):
        tokenizer.encode(text, allowed_special=END)
    with pytest.raises(ValueError, match="'<s>'"):
        tokenizer.encode(text, allowed_special=["<s>"])


def test_of_two_special_tokens_the_longer_is_meant():
    tokenizer = BPE.train("", 258, special_tokens=["<a>", "<a>b"])
    assert tokenizer.encode("<a><a>b", allowed_special="all") == [256, 257]


def test_special_tokens_are_not_learned_from():
    tokenizer = BPE.train(["xy<|x|>" * 9, "ab"], 259, special_tokens=["<|x|>"])
    assert tokenizer.tokens[256:] == [b"xy", b"ab", b"<|x|>"]


# ---- files --------------------------------------------------------------------------------------


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert isinstance(loaded, BPE)
    for name in ("tokens", "merges", "pattern", "special_tokens"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.encode(CORPUS, "all") == tokenizer.encode(CORPUS, "all")
    assert tokenizers.from_dict(tokenizer.to_dict()).to_dict() == tokenizer.to_dict()
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_bytes_may_have_any_ids():
    d = BPE.train(CORPUS, 300).to_dict()
    vocab = d["model"]["vocab"]
    for token, i in list(vocab.items())[:256]:
        vocab[token] = 255 - i
    loaded = BPE.from_dict(d)
    assert loaded.encode("\n") == [245]
    assert loaded.decode(loaded.encode(CORPUS)) == CORPUS


def test_merges_may_be_pairs_and_special_tokens_in_the_vocabulary():
    tokenizer = BPE.train("abab", 258, special_tokens=[END])
    d = tokenizer.to_dict()
    d["model"]["merges"] = [pair.split(" ") for pair in d["model"]["merges"]]
    d["model"]["vocab"][END] = 257
    d["post_processor"] = {"type": "ByteLevel", "trim_offsets": False}
    assert BPE.from_dict(d).to_dict() == tokenizer.to_dict()


def change(path, value):
    """A function that puts the value at "a.b.0.c" of a JSON object."""

    def edit(d):
        *parents, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
        for key in parents:
            d = d[key]
        d[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (change("model.dropout", 0.1), "model.dropout"),
        (change("model.unk_token", "a"), "model.unk_token"),
        (change("model.continuing_subword_prefix", "##"), "model.continuing_subword_prefix"),
        (change("model.end_of_word_suffix", "</w>"), "model.end_of_word_suffix"),
        (change("model.byte_fallback", True), "model.byte_fallback"),
        (change("model.ignore_merges", 1.5), "model.ignore_merges"),
        (change("model.fuse_unk", True), "model.fuse_unk"),
        (change("model.surprise", 0), "model.surprise"),
        (change("model.vocab", []), "model.vocab"),
        (change("model.vocab.a", 300), "model.vocab"),
        (change("model.vocab.a", 98), "model.vocab"),
        (change("model.vocab.a", True), "model.vocab"),
        (change("model.vocab.ab", 259), "model.vocab"),
        (change("model.vocab.你", 259), "model.vocab"),
        (change("model.vocab.", 259), "model.vocab"),
        (lambda d: change("model.vocab.aaa", d["model"]["vocab"].pop("a"))(d), "model.vocab"),
        (change("model.merges", None), "model.merges"),
        (change("model.merges.0", "ab"), r"model.merges\[0\]"),
        (change("model.merges.0", "a b c"), r"model.merges\[0\]"),
        (change("model.merges.0", ["a", 1]), r"model.merges\[0\]"),
        (change("model.merges.0", "a aa"), r"model.merges\[0\]"),
        (change("model.merges.1", "a b"), r"model.merges\[1\]"),
        (change("normalizer", {"type": "Lowercase"}), "normalizer.type"),
        (change("normalizer", {"type": "NFC"}), r"added_tokens\[0\]\.normalized"),
        (change("truncation", {}), "truncation"),
        (change("padding", {}), "padding"),
        (change("decoder", None), "decoder"),
        (change("decoder.type", "Metaspace"), "decoder.type"),
        (change("post_processor", {"type": "TemplateProcessing"}), "post_processor.single"),
        (change("pre_tokenizer", None), "pre_tokenizer"),
        (change("pre_tokenizer.type", "Metaspace"), "pre_tokenizer.type"),
        (change("pre_tokenizer.pretokenizers", []), "pre_tokenizer.pretokenizers"),
        (change("pre_tokenizer.pretokenizers.0.type", "Digits"), r".*\[0\]\.type"),
        (change("pre_tokenizer.pretokenizers.0.behavior", "Removed"), r".*\[0\]\.behavior"),
        (change("pre_tokenizer.pretokenizers.0.invert", True), r".*\[0\]\.invert"),
        (change("pre_tokenizer.pretokenizers.0.extra", True), r".*\[0\]\.extra"),
        (change("pre_tokenizer.pretokenizers.0.pattern", {"String": " "}), r".*\.String"),
        (change("pre_tokenizer.pretokenizers.0.pattern.Regex", "(a"), r".*\.Regex"),
        (change("pre_tokenizer.pretokenizers.0.pattern.Regex", ""), r".*\.Regex"),
        (change("pre_tokenizer.pretokenizers.1.use_regex", True), r".*\[1\]\.use_regex"),
        (change("pre_tokenizer.pretokenizers.1.add_prefix_space", True), r".*add_prefix_space"),
        (change("pre_tokenizer.pretokenizers.1.type", "Split"), r".*\[1\]\.type"),
        (change("added_tokens", {}), "added_tokens"),
        (change("added_tokens.0.special", 2), r"added_tokens\[0\]\.special"),
        (change("added_tokens.0.lstrip", True), r"added_tokens\[0\]\.lstrip"),
        (change("added_tokens.0.rstrip", True), r"added_tokens\[0\]\.rstrip"),
        (change("added_tokens.0.single_word", True), r"added_tokens\[0\]\.single_word"),
        (change("added_tokens.0.extra", 1), r"added_tokens\[0\]\.extra"),
        (change("added_tokens.0.content", ""), r"added_tokens\[0\]\.content"),
        (change("added_tokens.0.content", "ab"), r"added_tokens\[0\]\.id"),
        (change("added_tokens.0.id", 5), "model.vocab"),
        (lambda d: d["added_tokens"][0].update(content="a", id=97), "model.vocab"),
        (change("added_tokens.0.id", "5"), r"added_tokens\[0\]\.id"),
        (lambda d: d["added_tokens"].append(d["added_tokens"][0]), r"added_tokens\[1\]\.content"),
    ],
)
def test_what_a_file_asks_for_and_we_lack_is_an_error_that_names_it(tmp_path, edit, field):
    d = BPE.train("abab", 259, "gpt4", special_tokens=[END]).to_dict()
    d["added_tokens"][0]["normalized"] = True
    edit(d)
    file = tmp_path / "odd.json"
    file.write_text(json.dumps(d), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"odd\.json: {field} "):
        tokenizers.load(file)


def places(d, path=()):
    """The path to every value in a JSON object, but for most of its vocabulary."""
    items = d.items() if isinstance(d, dict) else enumerate(d) if isinstance(d, list) else ()
    for key, value in list(items)[-20:]:
        yield (*path, key)
        yield from places(value, (*path, key))


FUZZED = [
    BPE.train("abab", 259, "gpt4", special_tokens=[END]).to_dict(),
    BPE.train("abab", 258).to_dict(),
    tokenizers.Char.train("ab").to_dict(),
]
simple_values = st.sampled_from(
    [None, False, True, -1, 0, 1, 257, 1.5, "", "a", "a b", "ByteLevel"]
)
json_values = st.recursive(
    simple_values,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=4,
)


@examples
@given(st.data())
def test_a_damaged_file_is_a_value_error_or_a_tokenizer_that_works(data):
    d = copy.deepcopy(data.draw(st.sampled_from(FUZZED)))
    *parents, last = data.draw(st.sampled_from(list(places(d))))
    at = d
    for key in parents:
        at = at[key]
    if data.draw(st.booleans()):
        at[last] = data.draw(json_values)
    else:
        del at[last]
    try:
        loaded = tokenizers.from_dict(d, source="damaged.json")
    except ValueError as error:
        message = str(error)
    else:
        message = "damaged.json: none of the damage matters"
        text = "abab" if isinstance(loaded, BPE) else loaded.characters
        assert loaded.decode(loaded.encode(text)) == text
    assert message.startswith("damaged.json: ")


# ---- the libraries everyone uses ----------------------------------------------------------------


def real_text():
    """The start of tinyshakespeare where it is at hand, else the text above."""
    folder = backend.data_folder()
    file = folder / "tinyshakespeare.txt" if folder else None
    if file is None or not file.exists():
        return CORPUS * 10
    return file.read_text(encoding="utf-8")[:200_000]


@pytest.fixture(scope="module")
def from_tiktoken(tokenizer):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    if tokenizer.pattern not in NAMED:
        pytest.skip("tiktoken drops what the pattern does not match")
    special_ids = tokenizer.special_tokens.values()
    return tiktoken.Encoding(
        "ours",
        pat_str=NAMED[tokenizer.pattern] or r"[\s\S]+",
        mergeable_ranks={b: i for i, b in enumerate(tokenizer.tokens) if i not in special_ids},
        special_tokens=tokenizer.special_tokens,
    )


@pytest.fixture(scope="module")
def from_tokenizers(tokenizer, tmp_path_factory):
    # .models: where the package is missing, the folder of this test has its name
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import Tokenizer

    file = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    tokenizer.save(file)
    return Tokenizer.from_file(str(file))


@per_pattern
@given(text=any_text)
@example(text="a" + END + " <pad>" + END)
def test_same_ids_as_tiktoken(tokenizer, from_tiktoken, text):
    expected = from_tiktoken.encode(text, allowed_special="all")
    assert tokenizer.encode(text, allowed_special="all") == expected


@per_pattern
@given(text=any_text)
@example(text="a" + END + " <pad>" + END)
def test_same_ids_as_tokenizers(tokenizer, from_tokenizers, text):
    ids = tokenizer.encode(text, allowed_special="all")
    assert from_tokenizers.encode(text).ids == ids
    assert from_tokenizers.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


def test_same_ids_as_both_on_real_text(tokenizer, request):
    text = real_text()
    ids = tokenizer.encode(text)
    assert request.getfixturevalue("from_tokenizers").encode(text).ids == ids
    assert request.getfixturevalue("from_tiktoken").encode(text) == ids
