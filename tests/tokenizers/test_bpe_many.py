"""Long texts, all words at once: the ids of one word after the other, and of tiktoken."""

import random
import re
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_strings import END, REAL, any_text

from tinygpt.tokenizers import BPE, bpe, bpe_many, bpe_textbook, word_numbers
from tinygpt.tokenizers.bpe_many import Merger
from tinygpt.tokenizers.bpe_train import learn_merges
from tinygpt.tokenizers.numbering import Numbering
from tinygpt.tokenizers.patterns import NAMED, beginner, split
from tinygpt.tokenizers.word_numbers import in_a_row

SCRIPTS = (
    "съешь же ещё этих мягких 世界你好世界我们大家 สวัสดีชาวโลก नमस्ते दुनिया שלום عالم "
    "🙂👩\u200d👧🏽 é\u0301"
)
short_words = st.text("ab", min_size=1, max_size=12) | st.text("aé🙂 ", min_size=1, max_size=6)


def at_once(tokenizer, text):
    """Never word by word, however short the text is."""
    blocks = [text] if text else []
    ids = b"".join(tokenizer._many.encode(block, tokenizer._begins(block)) for block in blocks)
    return np.frombuffer(ids, tokenizer.dtype).tolist()


def one_by_one(tokenizer, text):
    """By the textbook, and nothing remembered."""
    out = []
    for word in tokenizer._split(text):
        letters = word.encode("utf-8")
        if tokenizer.whole_words and letters in tokenizer._ids:
            out.append(tokenizer._ids[letters])
        else:
            out += bpe_textbook.apply_merges(tokenizer.byte_ids(word), tokenizer.merges)
    return out


@settings(max_examples=30)
@given(st.lists(short_words, min_size=1, max_size=20))
@example(["aaaaa", "a", "aa", "abababab", "aaaaa"])
@example(["a"])
def test_merging_together_is_merging_each(words):
    merges = learn_merges(dict.fromkeys(words, 1), 30)
    letters, starts = in_a_row([word.encode() for word in words])
    found = {}
    for which, ids in Merger(merges, merges, list(range(256))).encode(
        letters, starts[:-1], np.diff(starts)
    ):
        found |= dict(zip(which.tolist(), ids.T.tolist(), strict=True))
    for k, word in enumerate(words):
        assert found[k] == bpe_textbook.apply_merges(word.encode(), merges)


def test_two_merges_of_one_rank_the_leftmost_goes_first():
    # as in tiktoken's files: "aaa" is one token, made of "aa" "a" or of "a" "aa"
    merges = {(97, 97): 256, (256, 97): 257, (97, 256): 257, (257, 98): 258}
    for word in (b"aaab", b"aaaab", b"aaaaab", b"baaaa", b"aaaaaaab"):
        letters, starts = in_a_row([word])
        merger = Merger(merges, merges, list(range(256)))
        results = list(merger.encode(letters, starts[:-1], np.diff(starts)))
        (ids,) = [ids.T.tolist() for which, ids in results if len(which)]
        assert ids == [bpe.apply_merges(list(word), merges, merges)]


@pytest.fixture(scope="module", params=[name for name in NAMED if name != "none"])
def tokenizer(request):
    return BPE.train(REAL + SCRIPTS * 2, 500, request.param)


@settings(max_examples=40)
@given(text=any_text)
@example("")
@example("a")
@example("\0")
@example("a\0 a a\0\0 \0a")
@example("abcdefgh abcdefghi abcdefg abcdefghijklmnop abcdefghijklmnopq")
@example("aaaa" * 100 + " x " + "ab" * 127 + "a b" + "ab" * 127 + " " + "ab" * 128)
@example(SCRIPTS)
def test_all_words_at_once_are_each_in_turn(tokenizer, text):
    expected = one_by_one(tokenizer, text)
    assert at_once(tokenizer, text) == expected
    assert at_once(tokenizer, text) == expected  # now all are known
    assert tokenizer.encode(text) == expected


def test_words_that_are_tokens_are_not_merged(tokenizer):
    whole = BPE(tokenizer.tokens, tokenizer.merges, tokenizer.pattern, whole_words=True)
    # tokens that no merge makes, of a length within and beyond what is remembered
    words = [
        b" speaketh",
        b" h\xc3\xa9",
        b" " + b"q" * (bpe_many.LONGEST - 1),
        b" " + b"qz" * bpe_many.LONGEST,
        b"qq",  # but not in "jqq", though no token has j before q
    ]
    odd = BPE([*tokenizer.tokens, *words], tokenizer.merges, tokenizer.pattern, whole_words=True)
    text = REAL + "he speaketh hé" + b"".join(words[:-1]).decode() + ". qq\nqq jqq"
    for some in (whole, odd):
        assert at_once(some, text) == one_by_one(some, text)
    assert set(range(500, 505)) < set(at_once(odd, text))


@pytest.mark.parametrize(("numbers", "block"), [(0, 1), (100, 40), (10_000, 10_000)])
def test_blocks_and_the_bound_on_what_is_remembered(tokenizer, monkeypatch, numbers, block):
    monkeypatch.setattr(bpe, "LONG", 0)
    monkeypatch.setattr(bpe, "BLOCK", block)
    monkeypatch.setattr(word_numbers, "BLOCK", 30)
    monkeypatch.setattr(bpe_many, "NUMBERS", 200 + numbers)
    fresh = BPE(tokenizer.tokens, tokenizer.merges, tokenizer.pattern)
    text = REAL + SCRIPTS + "a" * 300 + REAL
    expected = one_by_one(fresh, text)
    for _ in range(2):
        assert fresh.encode(text) == expected
        assert fresh._many.numbering.size <= fresh._many.numbering.room


def test_a_long_text_has_the_ids_of_tiktoken(tokenizer):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    peer = tiktoken.Encoding(
        "ours",
        pat_str=NAMED[tokenizer.pattern],
        mergeable_ranks={token: i for i, token in enumerate(tokenizer.tokens)},
        special_tokens={},
    )
    rng = random.Random(0)
    words = re.split("(?<= )", REAL + SCRIPTS)
    text = "".join(rng.choice(words)[rng.randrange(3) :] for _ in range(20_000))
    assert len(text) > bpe.LONG
    assert tokenizer.encode(text) == peer.encode_ordinary(text)


def test_threads_may_share_a_tokenizer(monkeypatch):
    tokenizer = BPE.train(REAL, 400)
    shared = BPE(tokenizer.tokens, tokenizer.merges)
    words = re.split("(?<= )", REAL)
    texts = ["".join(random.Random(seed).choices(words, k=300)) for seed in range(8)]
    monkeypatch.setattr(bpe, "LONG", 10**9)
    expected = [tokenizer.encode(text) for text in texts]
    monkeypatch.setattr(bpe, "LONG", 0)
    monkeypatch.setattr(bpe_many, "NUMBERS", 300)  # so that each often begins anew
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(3):
                assert list(pool.map(shared.encode, texts)) == expected
    finally:
        sys.setswitchinterval(interval)


def test_a_vocabulary_without_merges():
    tokenizer = BPE.train("", 256)
    assert at_once(tokenizer, REAL) == list(REAL.encode())


# ---- counting words -----------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.lists(any_text, max_size=3))
@example(["", "a a a", "a" * 256 + " b " + "a" * 256, REAL, "abcdefgh", "abcdefghi abcdefgh"])
@pytest.mark.parametrize("numbers", [60, 10_000])
def test_words_counted_by_number(numbers, texts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_numbers, "BLOCK", 30)
        patch.setattr(word_numbers, "NUMBERS", numbers)
        counter = word_numbers.WordCounter()
        for text in texts:
            assert counter.count(text, beginner("gpt2")(text)) == Counter(split("gpt2", text))


def test_long_texts_are_counted_as_short_ones_are(monkeypatch):
    texts = [REAL + END, SCRIPTS, "", END, "a" * 100 + SCRIPTS + END + "a"]
    for name in NAMED:
        monkeypatch.setattr(bpe, "LONG", 10**9)
        expected = bpe.counts_around(name, [END])
        monkeypatch.setattr(bpe, "LONG", 2)
        count = bpe.counts_around(name, [END])
        for text in texts:
            assert count(text) == expected(text)
            assert END not in count(text)


# ---- numbers for pairs --------------------------------------------------------------------------


integers = st.integers(0, 3) | st.integers(0, 2**64 - 1)


@settings(max_examples=40)
@given(st.lists(st.lists(st.tuples(integers, integers), max_size=30), max_size=4))
@example([[(0, 0), (0, 0), (2**64 - 1, 2**64 - 1)]])
def test_numbering_is_a_dict(batches):
    numbering, expected = Numbering(1 + sum(map(len, batches))), {}
    for batch in batches:
        a, b = (np.array([pair[k] for pair in batch], np.uint64) for k in (0, 1))
        assert numbering.numbers(a, b).tolist() == [expected.get(pair, 0) for pair in batch]
        numbers = numbering.numbers(a, b, add=True).tolist()
        for pair, number in zip(batch, numbers, strict=True):
            assert expected.setdefault(pair, number) == number
        assert sorted(expected.values()) == list(range(1, numbering.size))


def test_pairs_that_want_the_same_slot(monkeypatch):
    monkeypatch.setattr(Numbering, "_first_slot", lambda self, a, b: np.full(len(a), 14))
    numbering = Numbering(7)
    assert len(numbering.slots) == 16  # so after two steps comes the first
    a = np.array([5, 6, 5, 7, 8, 5, 8, 0])
    numbers = numbering.numbers(a, a, add=True).tolist()
    assert numbering.numbers(a, a).tolist() == numbers
    assert len(set(zip(a.tolist(), numbers, strict=True))) == len(set(numbers)) == 5
    assert not numbering.numbers(a, a + 1).any()
