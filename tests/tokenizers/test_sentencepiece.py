"""SentencePiece's .model, files like T5's and Llama 2's, llama2.c's tokenizer.bin: the same ids."""

import json
import random
import struct

import pytest
from hypothesis import example, given, settings
from tokenizers_strings import REAL, any_text, change

from tinygpt import tokenizers
from tinygpt.tokenizers import SentencePieceBPE
from tinygpt.tokenizers.formats.sentencepiece_model import fields, read_model

MODELS = {
    "unigram": {"model_type": "unigram"},
    "unigram-bytes": {"model_type": "unigram", "byte_fallback": True},
    "bpe": {"model_type": "bpe"},
    "llama": {
        "model_type": "bpe",
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
        "allow_whitespace_only_pieces": True,
    },
    "symbols": {
        "model_type": "unigram",
        "user_defined_symbols": ["<sep>", "ab"],
        "add_dummy_prefix": False,
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    folder = tmp_path_factory.mktemp("models")
    lines = [line + "  " + line for line in REAL.splitlines() * 3]
    for name, options in MODELS.items():
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_prefix=str(folder / name),
            vocab_size=600 if options.get("byte_fallback") else 400,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
    return folder


@pytest.fixture(scope="module", params=MODELS)
def pair(request, models):
    import sentencepiece

    file = models / f"{request.param}.model"
    theirs = sentencepiece.SentencePieceProcessor(str(file))
    return tokenizers.from_sentencepiece(file), theirs


@settings(max_examples=60)
@given(text=any_text)
@example(REAL)
@example("  a \t b\u3000 ")
@example("a<sep>b <sep> abba<sep><sep>")
@example("▁a▁ b")
@example("poor죹مرحباⅧहै।𣨹囶")  # close, after what is unknown
@example("9" * 300 + "-" * 300)
def test_ids_are_those_of_sentencepiece(pair, text):
    ours, theirs = pair
    assert ours.encode(text) == theirs.encode(text)


def test_a_long_text(pair):
    ours, theirs = pair
    rng = random.Random(0)
    words = REAL.split()
    text = " ".join(rng.choice(words) + str(rng.randrange(10**6)) for _ in range(3000))
    assert ours.encode(text) == theirs.encode(text)
    make, arguments = ours.__reduce__()
    assert make(*arguments).encode(text) == theirs.encode(text)


def test_any_ids_decode(pair):
    ours, _ = pair
    rng = random.Random(0)
    for _ in range(100):
        ids = [rng.randrange(ours.vocab_size) for _ in range(rng.randrange(20))]
        assert isinstance(ours.decode(ids), str)


def test_what_we_write_of_it_is_read_there(pair, tmp_path):
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import Tokenizer

    ours, _ = pair
    ours.save(tmp_path / "tokenizer.json")
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert loaded.to_dict() == json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    for text in (REAL, "", " ", "a  b", *REAL.split()):
        ids = loaded.encode(text, "all")
        assert ids == theirs.encode(text, add_special_tokens=False).ids
        assert loaded.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
        with_template = loaded.encode(text, "all", add_special_tokens=True)
        assert with_template == theirs.encode(text).ids


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 200, -1, -100])
def test_a_model_that_is_cut_off(models, tmp_path, cut):
    content = (models / "unigram.model").read_bytes()
    file = tmp_path / "damaged.model"
    file.write_bytes(content[:cut])
    with pytest.raises(ValueError, match=r"^.*damaged\.model: "):
        tokenizers.from_sentencepiece(file)


def test_damaged_models(models, tmp_path):
    rng = random.Random(0)
    content = (models / "unigram.model").read_bytes()
    file = tmp_path / "damaged.model"
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[rng.randrange(3000)] = rng.randrange(256)
        file.write_bytes(damaged)
        message = str(file)
        try:
            loaded = tokenizers.from_sentencepiece(file)
            loaded.decode(loaded.encode("a b"))
        except ValueError as error:
            refused += 1
            message = str(error)
        assert message.startswith(str(file))
    assert refused > 10


# ---- a file like T5's, one like Llama 2's -------------------------------------------------------


def t5_like(models, kind):
    """A tokenizer.json with T5's steps (`kind` old: as the first ones had them)."""
    model = read_model(models / "unigram.model")
    table = model.normalizer.to_json()["normalizer"]["normalizers"][0]
    d = tokenizers.from_sentencepiece(models / "unigram.model").to_dict()
    if kind == "old":
        metaspace = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
        d["normalizer"] = table
        d["pre_tokenizer"] = {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace],
        }
        d["decoder"] = metaspace
    else:
        metaspace = {"type": "Metaspace", "replacement": "▁", "split": True}
        metaspace["prepend_scheme"] = kind
        strip = {"type": "Strip", "strip_left": False, "strip_right": True}
        spaces = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}
        d["normalizer"] = {"type": "Sequence", "normalizers": [table, strip, spaces]}
        d["pre_tokenizer"] = d["decoder"] = metaspace
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    size = len(d["model"]["vocab"])
    for k in range(2):
        d["model"]["vocab"].append([f"<extra_id_{k}>", 0.0])
        d["added_tokens"].append(
            {"id": size + k, "content": f"<extra_id_{k}>"} | flags | {"special": True}
        )
    end = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    d["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
        "special_tokens": {"</s>": end},
    }
    return d


@pytest.fixture(scope="module", params=["old", "always", "first", "never"])
def t5(request, models):
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import Tokenizer

    d = t5_like(models, request.param)
    return tokenizers.from_dict(d), Tokenizer.from_str(json.dumps(d))


@settings(max_examples=60)
@given(text=any_text)
@example(REAL)
@example("Find <extra_id_0> and  <extra_id_1></s>")
@example("e\u0301 ﬁ Ⅷ ² ﷺ \u00ad\u200d ｶﾞｷﾞ 한\u1112\u1161\u11ab")
def test_ids_of_a_t5_are_those_of_tokenizers(t5, text):
    ours, theirs = t5
    ids = ours.encode(text, "all", add_special_tokens=True)
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_a_llama2_made_by_transformers(models):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = read_model(models / "llama.model")
    ours = tokenizers.from_sentencepiece(models / "llama.model")
    merges = [(ours.tokens[a], ours.tokens[b]) for a, b in ours.merges]
    vocab = {token: i for i, token in enumerate(model.tokens)}
    theirs = transformers.LlamaTokenizer(vocab=vocab, merges=merges)._tokenizer
    loaded = tokenizers.from_dict(json.loads(theirs.to_str()))
    assert isinstance(loaded, SentencePieceBPE)
    for text in (REAL, "a  b", "  ", "🦜 x"):
        assert loaded.encode(text, "all") == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (change("model.unk_token", "<none>"), "model.unk_token"),
        (change("model.dropout", 0.5), "model.dropout"),
        (change("model.vocab.<0x00>", 599), "model.vocab"),
        (lambda d: d["model"]["vocab"].pop("<0x00>"), "model.vocab"),
        (change("model.merges.3", "a"), r"model\.merges\[3\]"),
        (change("model.merges.3", ["a", "none"]), r"model\.merges\[3\]"),
        (change("pre_tokenizer", {"type": "Digits"}), r"pre_tokenizer\.type"),
    ],
)
def test_what_a_file_asks_for_and_we_lack_is_an_error_that_names_it(models, edit, field):
    d = json.loads(json.dumps(tokenizers.from_sentencepiece(models / "llama.model").to_dict()))
    edit(d)
    with pytest.raises(ValueError, match=rf"^odd\.json: {field} "):
        tokenizers.from_dict(d, "odd.json")


# ---- llama2.c -----------------------------------------------------------------------------------


@pytest.fixture
def tokenizer_bin(models, tmp_path):
    """As llama2.c's tokenizer.py writes it from a .model."""
    model = read_model(models / "llama.model")
    rows = []
    for i, token in enumerate(model.tokens):
        written = {1: "\n<s>\n", 2: "\n</s>\n"}.get(i, token.replace("▁", " ")).encode()
        rows.append(struct.pack("<fi", model.scores[i], len(written)) + written)
    longest = max(len(row) - 8 for row in rows)
    file = tmp_path / "tokenizer.bin"
    file.write_bytes(struct.pack("<i", longest) + b"".join(rows))
    return file


def test_llama2c(models, tokenizer_bin):
    import sentencepiece

    theirs = sentencepiece.SentencePieceProcessor(str(models / "llama.model"))
    ours = SentencePieceBPE.from_llama2c(tokenizer_bin)
    for text in (REAL, "", "  a  b", "\n", "🦜", *REAL.split()):
        assert ours.encode(text) == theirs.encode(text)
    assert ours.encode("a", add_special_tokens=True)[0] == 1
    assert ours.decode(ours.encode(REAL)) == REAL
    with pytest.raises(ValueError, match=f"has {ours.vocab_size} tokens, expected vocab_size=9"):
        SentencePieceBPE.from_llama2c(tokenizer_bin, vocab_size=9)


def test_damaged_tokenizer_bin(tokenizer_bin):
    content = tokenizer_bin.read_bytes()
    for damaged, message in (
        (b"", "0 bytes are no tokenizer.bin"),
        (content[:100], "expected '<0x04>'"),
        (content[:-1], "is cut off"),
        (content[:1000], "(is cut off|expected)"),
        (content[:8] + b"\xff\xff\xff\xff" + content[12:], "the length -1"),
        (content[:8] + b"\x00\xff\xff\x7f" + content[12:], "the length 2147483392"),
        (content.replace(b"<0x41>", b"<0x42>", 1), "expected '<0x41>'"),
        (content.replace(b"<0x41>", b"<0x4\xff>", 1), "not UTF-8"),
        (content[:4], r"token 0 is \[\]"),
    ):
        tokenizer_bin.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"tokenizer\.bin: .*{message}"):
            SentencePieceBPE.from_llama2c(tokenizer_bin)


def test_fields_of_a_message():
    # field 1: 150; field 2: b"hi"; field 3: four bytes
    data = b"\x08\x96\x01" + b"\x12\x02hi" + b"\x1d\x00\x00\x80\x3f"
    assert list(fields(data, "here")) == [(1, 150), (2, b"hi"), (3, b"\x00\x00\x80\x3f")]
    for damaged in (b"\x08", b"\x12\x05hi", b"\x0b", b"\x08" + b"\xff" * 12):
        with pytest.raises(ValueError, match=r"^here: "):
            list(fields(damaged, "here"))
