"""Unigram: the best segmentation, by trying all; training; the ids of tokenizers."""

import copy
import json
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_strings import REAL, any_text, change

from tinygpt import tokenizers
from tinygpt.tokenizers import Unigram, unigram_train
from tinygpt.tokenizers.formats import unigram_files


def small(byte_fallback=False):
    scores = {"▁": -5.0, "a": -3.0, "b": -3.5, "ab": -4.0, "ba": -4.25, "▁a": -6.0, "aab": -7.0}
    before = ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)] * byte_fallback
    return Unigram(
        before + [*scores],
        [-30.0] * len(before) + [*scores.values()],
        special_tokens={"<unk>": 0},
        byte_fallback=byte_fallback,
        steps=unigram_files.STEPS,
    )


def test_by_hand():
    tokenizer = small()
    # ▁ab: ▁ + ab = -9, ▁a + b = -9.5, ▁ + a + b = -11.5
    assert [tokenizer.tokens[i] for i in tokenizer.encode("ab")] == ["▁", "ab"]
    assert [tokenizer.tokens[i] for i in tokenizer.encode("aab")] == ["▁a", "ab"]  # -10; aab -12
    assert [tokenizer.tokens[i] for i in tokenizer.encode("xy b")] == ["▁", "<unk>", "▁", "b"]
    assert tokenizer.decode(tokenizer.encode(" ab  aab\n")) == "ab aab"
    assert tokenizer.decode(small(True).encode("")) == ""
    assert small(True).decode(small(True).encode("a🙂é b")) == "a🙂é b"


def segmentations(word):
    for k in range(len(word)):
        for cuts in combinations(range(1, len(word)), k):
            places = [0, *cuts, len(word)]
            yield [word[a:b] for a, b in zip(places, places[1:], strict=False)]


@given(st.text("ab", min_size=1, max_size=9))
def test_the_best_of_all_segmentations(text):
    tokenizer = small()
    score = dict(zip(tokenizer.tokens, tokenizer.scores, strict=True))
    best = max(
        sum(score.get(token, -math.inf) for token in tokens) for tokens in segmentations("▁" + text)
    )
    found = sum(tokenizer.scores[i] for i in tokenizer.encode(text))
    assert found == pytest.approx(best)


def test_samples_have_the_probabilities_that_they_should_have():
    tokenizer = small()
    score = dict(zip(tokenizer.tokens, tokenizer.scores, strict=True))
    weights = {}
    for tokens in segmentations("▁aab"):
        if all(token in score for token in tokens):
            weights[tuple(tokens)] = math.exp(0.5 * sum(score[token] for token in tokens))
    rng = np.random.default_rng(0)
    drawn = dict.fromkeys(weights, 0)
    for _ in range(4000):
        drawn[tuple(tokenizer.tokens[i] for i in tokenizer.sample("aab", 0.5, rng))] += 1
    for tokens, weight in weights.items():
        p = weight / sum(weights.values())
        assert abs(drawn[tokens] / 4000 - p) < 4 * math.sqrt(p / 4000)
    assert tokenizer.sample("aab", 1e6) == tokenizer.encode("aab")
    assert tokenizer.sample("aab ba", 0.1, rng=3) == tokenizer.sample("aab ba", 0.1, rng=3)
    assert small(True).decode(small(True).sample("a🙂", 0.1)) == "a🙂"


# ---- training -----------------------------------------------------------------------------------


@given(st.dictionaries(st.text("ab", min_size=1, max_size=6), st.integers(1, 5), min_size=1))
@settings(max_examples=30)
def test_expected_counts_are_sums_over_all_segmentations(words):
    pieces = ["a", "b", "ab", "ba", "aab"]
    scores = np.array([-2.0, -2.5, -3.0, -1.5, -4.0])
    expected = dict.fromkeys(pieces, 0.0)
    for word, count in words.items():
        ways = [way for way in segmentations(word) if all(piece in pieces for piece in way)]
        weights = [math.exp(sum(scores[pieces.index(piece)] for piece in way)) for way in ways]
        for way, weight in zip(ways, weights, strict=True):
            for piece in way:
                expected[piece] += count * weight / sum(weights)
    groups = unigram_train.in_groups(words, pieces)
    counts = unigram_train.expected_counts(groups, scores)
    np.testing.assert_allclose(counts, list(expected.values()), rtol=1e-9, atol=1e-12)


def test_digamma():
    # psi(1) = -gamma, psi(1/2) = -gamma - 2 log 2, psi(x + 1) = psi(x) + 1/x
    gamma = 0.5772156649015329
    x = np.array([1.0, 0.5, 2.0, 100.0])
    np.testing.assert_allclose(
        unigram_train.digamma(x)[:3], [-gamma, -gamma - 2 * math.log(2), 1 - gamma], rtol=1e-9
    )
    np.testing.assert_allclose(
        unigram_train.digamma(x + 1), unigram_train.digamma(x) + 1 / x, rtol=1e-9
    )


def test_em_raises_the_likelihood():
    words = unigram_train.in_lengths({"▁" + word: 1 for word in REAL.split()})
    letters = sorted({letter for word in words for letter in word})
    pieces, scores = unigram_train.seeds(words, letters)
    groups = unigram_train.in_groups(words, pieces)

    def likelihood(scores):
        p = np.append(np.exp(scores), 0.0)
        total = 0.0
        for group in groups:
            forward = np.zeros((group.length + 1, len(group.counts)))
            forward[0] = 1.0
            for start, end, ids in unigram_train.steps(group):
                forward[end] += forward[start] * p[ids]
            total += float(group.counts @ np.log(forward[-1]))
        return total

    before = likelihood(scores)
    for _ in range(5):
        counts = unigram_train.expected_counts(groups, scores)
        scores = np.log(np.maximum(counts, 1e-9) / counts.sum())
        assert likelihood(scores) >= before - 1e-6
        before = likelihood(scores)


@pytest.fixture(scope="module")
def trained():
    return Unigram.train(REAL * 2, 600, special_tokens=["<s>"])


def test_what_is_learned(trained):
    assert trained.vocab_size == 600
    assert trained.special_tokens == {"<unk>": 0, "<s>": 1}
    assert trained.tokens[2] == "<0x00>"
    assert len(set(trained.tokens)) == 600
    scores = trained.scores[258:]
    assert scores == sorted(scores, reverse=True)
    assert np.exp(scores).sum() <= 1.0001
    assert "▁the" in trained.tokens or "the" in trained.tokens
    assert 0 not in trained.encode(REAL)
    assert "🦜" in trained.decode(trained.encode("ab 🦜"))


def test_where_training_reads_from_does_not_matter(tmp_path):
    file = tmp_path / "text"
    file.write_bytes(REAL.encode())
    expected = Unigram.train(REAL, 550).to_dict()
    lines = REAL.splitlines()
    assert Unigram.train(file, 550).to_dict() == expected
    assert Unigram.train(reversed(lines), 550).to_dict() == expected
    assert Unigram.train(lines, 550, processes=2).to_dict() == expected


def test_a_file_of_text_becomes_a_file_of_ids(tmp_path, monkeypatch, trained):
    monkeypatch.setattr(tokenizers.words, "BLOCK", 100)
    (tmp_path / "text").write_bytes((REAL * 3).encode())
    expected = trained.encode_array(REAL * 3)
    assert trained.encode_file(tmp_path / "text", tmp_path / "ids") == len(expected)
    assert (tmp_path / "ids").read_bytes() == expected.tobytes()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="1 tokens that are always there and 3 characters make 4"):
        Unigram.train("ab", 3, byte_fallback=False)
    with pytest.raises(ValueError, match="more than this text has pieces for; try vocab_size=4,"):
        Unigram.train("ab", 300, byte_fallback=False)
    with pytest.raises(ValueError, match="too small"):
        Unigram.train("", 200)


@given(st.lists(st.integers(0, 599)))
def test_any_ids_decode(trained, ids):
    assert isinstance(trained.decode(ids), str)
    assert isinstance(trained.decode_bytes(ids), bytes)


# ---- files --------------------------------------------------------------------------------------


def test_save_and_load(tmp_path, trained):
    trained.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert loaded.to_dict() == trained.to_dict()
    assert loaded.encode(REAL) == trained.encode(REAL)


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (change("model.vocab", {}), "model.vocab"),
        (change("model.vocab", []), "model.vocab"),
        (change("model.vocab.3", ["x"]), r"model\.vocab\[3\]"),
        (change("model.vocab.3", ["▁", 1, 2]), r"model\.vocab\[3\]"),
        (change("model.vocab.3.1", "-1"), r"model\.vocab\[3\]\[1\]"),
        (change("model.vocab.3.1", float("nan")), r"model\.vocab\[3\]\[1\]"),
        (change("model.vocab.3.0", "a"), r"model\.vocab\[\d+\]"),
        (change("model.unk_id", 600), "model.unk_id"),
        (change("model.unk_id", -1), "model.unk_id"),
        (change("model.unk_id", "0"), "model.unk_id"),
        (change("model.surprise", 0), "model.surprise"),
        (change("normalizer.type", "Surprise"), "normalizer.type"),
        (
            change("normalizer.normalizers.0.type", "Surprise"),
            r"normalizer\.normalizers\[0\]\.type",
        ),
        (change("normalizer.normalizers.1.pattern", {"Regex": "(a"}), r"normalizer\..*\.Regex"),
        (change("pre_tokenizer.type", "BertPreTokenizer"), "pre_tokenizer.type"),
        (change("pre_tokenizer.replacement", "_"), "pre_tokenizer.replacement"),
        (change("decoder.decoders.1.type", "Surprise"), r"decoder\.decoders\[1\]\.type"),
        (change("decoder.decoders.3.content", "ab"), r"decoder\.decoders\[3\]\.content"),
        (change("added_tokens.1.id", 700), r"added_tokens"),
    ],
)
def test_what_a_file_asks_for_and_we_lack_is_an_error_that_names_it(trained, edit, field):
    d = copy.deepcopy(trained.to_dict())
    edit(d)
    with pytest.raises(ValueError, match=rf"^odd\.json: {field}"):
        tokenizers.from_dict(d, "odd.json")


# ---- the libraries everyone uses ----------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, False], ids=["bytes", "unknown"])
def pair(request):
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import Tokenizer

    size = 600 if request.param else 300
    ours = Unigram.train(REAL * 2, size, byte_fallback=request.param)
    return ours, Tokenizer.from_str(json.dumps(ours.to_dict()))


@settings(max_examples=60)
@given(text=any_text)
@example(REAL)
@example("a" * 500)
@example("<unk> a  <unk>")
@example("\x1c\x1d \x85\u2028\u3000 ▁ a▁b")
def test_ids_are_those_of_tokenizers(pair, text):
    ours, theirs = pair
    ids = ours.encode(text, "all")
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
