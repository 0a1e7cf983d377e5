"""WordPiece: its score, and the ids of tokenizers and of transformers' BERT."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_strings import REAL, any_text, change

from tinygpt import tokenizers
from tinygpt.tokenizers import WordPiece
from tinygpt.tokenizers.wordpiece_train import in_letters, learn_tokens


def test_by_hand():
    # f: h 3, ##u ##g 2, ##a ##s ##t 1. Pairs: h##u ##u##g 2, ##g##s h##a ##a##t 1. The score of
    # ##a##t is 1 / (1 * 1), the highest; then that of ##g##s 1 / (2 * 1). Then ##u##g and ##u##gs
    # are at 1 / (2 * 1), and ##g has a smaller id than ##gs.
    tokenizer = WordPiece.train("hug hugs hat", 5 + 6 + 3, min_frequency=1)
    letters = ["##a", "##g", "##s", "##t", "##u", "h"]
    assert tokenizer.tokens == [*tokenizers.wordpiece.SPECIAL, *letters, "##at", "##gs", "##ug"]
    assert tokenizer.encode("hugs") == [10, 13, 7]
    assert tokenizer.encode("hat hug") == [10, 11, 10, 13]
    assert tokenizer.encode("bat hats") == [1, 10, 11, 7]  # b was not there: the whole word is lost
    assert tokenizer.encode("HÁT", add_special_tokens=True) == [2, 10, 11, 3]
    assert tokenizer.decode([10, 11, 10, 13]) == "hat hug"


def textbook(words, vocab_size, special_tokens, inside, min_frequency):
    """Count everything again for each merge."""
    rows = [(in_letters(word, inside), count) for word, count in words.items()]
    tokens = [*special_tokens, *sorted({letter for row, _ in rows for letter in row})]
    while len(tokens) < vocab_size:
        one, two = {}, {}
        for row, count in rows:
            for token in row:
                one[token] = one.get(token, 0) + count
            for pair in zip(row, row[1:], strict=False):
                two[pair] = two.get(pair, 0) + count
        scores = {
            pair: count / (one[pair[0]] * one[pair[1]])
            for pair, count in two.items()
            if count >= min_frequency
        }
        if not scores:
            break
        pair = min(scores, key=lambda p: (-scores[p], tokens.index(p[0]), tokens.index(p[1])))
        new = pair[0] + pair[1].removeprefix(inside)
        tokens.append(new)
        merged = []
        for row, count in rows:
            out = []
            for token in row:
                if out and (out[-1], token) == pair:
                    out[-1] = new
                else:
                    out.append(token)
            merged.append((out, count))
        rows = merged
    return tokens


short_words = st.text("ab", min_size=1, max_size=12) | st.text("abcé", min_size=1, max_size=6)


@given(st.dictionaries(short_words, st.integers(1, 4), max_size=8), st.integers(1, 2))
@example({"aaaa": 1, "aaaaa": 2}, 1)
@example({"abababab": 1}, 1)
def test_tokens_are_the_textbooks(words, min_frequency):
    expected = textbook(words, 40, ["?"], "##", min_frequency)
    assert learn_tokens(words, len(expected), ["?"], "##", min_frequency) == expected
    assert len(set(expected)) == len(expected)  # no two merges make the same token
    if len(expected) < 40:
        with pytest.raises(ValueError, match=rf"try vocab_size={len(expected)}, "):
            learn_tokens(words, 40, ["?"], "##", min_frequency)


def test_where_training_reads_from_does_not_matter(tmp_path):
    file = tmp_path / "text"
    file.write_bytes(REAL.encode())
    expected = WordPiece.train(REAL, 260).to_dict()
    lines = REAL.splitlines()
    assert WordPiece.train(file, 260).to_dict() == expected
    assert WordPiece.train(reversed(lines), 260).to_dict() == expected
    assert WordPiece.train(lines, 260, processes=2).to_dict() == expected


def test_a_file_of_text_becomes_a_file_of_ids(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenizers.words, "BLOCK", 100)
    (tmp_path / "text").write_bytes((REAL * 3).encode())
    tokenizer = WordPiece.train(REAL, 260)
    expected = tokenizer.encode_array(REAL * 3)
    assert tokenizer.encode_file(tmp_path / "text", tmp_path / "ids") == len(expected)
    assert (tmp_path / "ids").read_bytes() == expected.tobytes()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="5 special tokens and 2 characters make 7"):
        WordPiece.train("ab", 6)
    with pytest.raises(ValueError, match=r"must hold '\[UNK\]'"):
        WordPiece.train("ab", 100, special_tokens=["[PAD]"])
    with pytest.raises(ValueError, match="half of a surrogate pair"):
        WordPiece.train("ab", 7).encode("\ud83d")
    with pytest.raises(ValueError, match=r"special token '\[UNK\]' at offset 3"):
        WordPiece.train("ab", 7).encode("ab [UNK]")


@given(st.lists(st.integers(0, 399)))
def test_any_ids_decode(ids):
    assert isinstance(trained(True).decode(ids), str)
    assert isinstance(trained(True).decode_bytes(ids), bytes)


def trained(lowercase, kept={}):  # noqa: B006
    if lowercase not in kept:
        kept[lowercase] = WordPiece.train(REAL * 2, 400, lowercase=lowercase)
    return kept[lowercase]


# ---- files --------------------------------------------------------------------------------------


def test_vocab_txt(tmp_path):
    tokenizer = trained(False)
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(tokenizer.tokens) + "\n", encoding="utf-8")
    assert WordPiece.from_vocab(file, lowercase=False).to_dict() == tokenizer.to_dict()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[UNK]\na\n\nb\n", "line 3 is empty"),
        (b"[UNK]\na\nb\na\n", "line 4 is 'a', which is on line 2 too"),
        (b"[UNK]\na", "line 2 has no end"),
        (b"a\n", r"has no \[UNK\]"),
        (b"[UNK]\n\xff\n", "not UTF-8 at byte 6"),
    ],
)
def test_damaged_vocab_txt(tmp_path, content, message):
    file = tmp_path / "vocab.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"vocab\.txt: {message}"):
        WordPiece.from_vocab(file)


@pytest.mark.parametrize("lowercase", [True, False])
def test_save_and_load(tmp_path, lowercase):
    tokenizer = trained(lowercase)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert loaded.to_dict() == tokenizer.to_dict()
    assert loaded.encode(REAL) == tokenizer.encode(REAL)


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (change("model.vocab", []), "model.vocab"),
        (change("model.vocab.h", 5), "model.vocab"),
        (change("model.vocab.h", -1), "model.vocab"),
        (change("model.vocab.h", 400), "model.vocab"),
        (change("model.unk_token", "<unk>"), "model.unk_token"),
        (change("model.continuing_subword_prefix", "@@"), "model.continuing_subword_prefix"),
        (change("model.max_input_chars_per_word", 0), "model.max_input_chars_per_word"),
        (change("model.surprise", 0), "model.surprise"),
        (change("normalizer", None), "normalizer"),
        (change("normalizer.type", "NFC"), "normalizer.type"),
        (change("normalizer.lowercase", None), "normalizer.lowercase"),
        (change("pre_tokenizer.type", "Whitespace"), "pre_tokenizer.type"),
        (change("decoder.type", "ByteLevel"), "decoder.type"),
        (change("decoder.cleanup", None), "decoder.cleanup"),
        (change("added_tokens.0.normalized", True), r"added_tokens\[0\]\.normalized"),
        (change("post_processor.type", "Surprise"), "post_processor.type"),
        (change("post_processor.single.0.SpecialToken.id", "x"), "post_processor.special_tokens.x"),
        (change("post_processor.special_tokens.[CLS].ids", [7]), r"post_processor.*\.\[CLS\]"),
        (change("post_processor.single.1.Sequence.id", "B"), "post_processor.single"),
        (change("post_processor.single.1.Sequence.type_id", None), r"post_processor.*\.type_id"),
        (change("post_processor.pair", {}), "post_processor.pair"),
        (change("post_processor.pair.0", {"Text": 0}), r"post_processor\.pair\[0\]\.Text"),
        (change("post_processor.pair.1.Sequence.id", "C"), r"post_processor\.pair\[1\].*\.id"),
        (change("post_processor.pair.0.SpecialToken.id", "x"), "post_processor.special_tokens.x"),
    ],
)
def test_what_a_file_asks_for_and_we_lack_is_an_error_that_names_it(edit, field):
    d = json.loads(json.dumps(trained(True).to_dict()))
    edit(d)
    with pytest.raises(ValueError, match=rf"^odd\.json: {field} "):
        tokenizers.from_dict(d, "odd.json")


def test_what_a_file_says_about_pairs_is_saved_again():
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import Tokenizer

    d = trained(True).to_dict()
    cls, sep = (["[CLS]", d["model"]["vocab"]["[CLS]"]], ["[SEP]", d["model"]["vocab"]["[SEP]"]])
    steps = d["post_processor"]["pair"]
    changed = d["post_processor"] | {"pair": [*steps[1:4], steps[0]]}
    roberta = {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": False}
    for step in (
        d["post_processor"],
        changed,
        {"type": "BertProcessing", "sep": sep, "cls": cls},
        roberta | {"sep": sep, "cls": cls},
    ):
        theirs = Tokenizer.from_str(json.dumps(d | {"post_processor": step}))
        ours = tokenizers.from_dict(d | {"post_processor": step})
        saved = Tokenizer.from_str(json.dumps(ours.to_dict()))
        for texts in (("he speaks",), ("he speaks", "citizens, hear me")):
            expected, given = theirs.encode(*texts), saved.encode(*texts)
            assert given.ids == expected.ids
            assert given.type_ids == expected.type_ids
        assert ours.encode("he", add_special_tokens=True) == theirs.encode("he").ids


# ---- the libraries everyone uses ----------------------------------------------------------------


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def pair(request):
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import Tokenizer

    ours = trained(request.param)
    return ours, Tokenizer.from_str(json.dumps(ours.to_dict()))


@settings(max_examples=50)
@given(text=any_text)
@example(REAL)
@example("a" * 99 + " " + "a" * 100 + " " + "a" * 101)
@example("İstanbul Σίσυφος ΣΑΣ ǅ ﬁ \x1c\x1d \x85 \u00ad\u200d")
@example("[CLS] a[MASK]b [UNK]")
@example("a\u166db a\u1734b a\u1885b \u0378 é")
def test_ids_are_those_of_tokenizers(pair, text):
    ours, theirs = pair
    ids = ours.encode(text, "all")
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode(text, "all", add_special_tokens=True) == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_a_bert_made_by_tokenizers():
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import BertWordPieceTokenizer

    theirs = BertWordPieceTokenizer(lowercase=True)
    theirs.train_from_iterator(REAL.splitlines(), vocab_size=300, show_progress=False)
    ours = tokenizers.from_dict(json.loads(theirs._tokenizer.to_str()))
    assert ours.encode(REAL) == theirs.encode(REAL, add_special_tokens=False).ids


def test_berts_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    file = tmp_path / "vocab.txt"
    for lowercase in (True, False):
        ours = trained(lowercase)
        file.write_text("\n".join(ours.tokens) + "\n", encoding="utf-8")
        theirs = transformers.BertTokenizer(str(file), do_lower_case=lowercase)
        theirs.save_pretrained(tmp_path / "bert")
        loaded = tokenizers.load(tmp_path / "bert" / "tokenizer.json")
        expected = theirs(REAL)["input_ids"]
        assert loaded.encode(REAL, add_special_tokens=True) == expected
