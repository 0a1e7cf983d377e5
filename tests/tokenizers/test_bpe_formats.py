"""GPT-2's files, tiktoken's, and tokenizer.json as GPT-2, Llama 3 and Qwen 2.5 have it."""

import base64
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers_strings import END, REAL, any_text

from tinygpt import backend, tokenizers
from tinygpt.tokenizers import BPE
from tinygpt.tokenizers.formats.byte_level import characters
from tinygpt.tokenizers.patterns import NAMED

SPECIAL = {END: 300, "<|im_start|>": 302}  # 301: an id that is not in use
LLAMA3_TEXT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture(scope="module")
def ours():
    return BPE.train(REAL * 2, 300)


@pytest.fixture
def ranks(ours, tmp_path):
    file = tmp_path / "small.tiktoken"
    lines = [b"%s %d" % (base64.b64encode(token), i) for i, token in enumerate(ours.tokens)]
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file


@pytest.fixture
def gpt2_files(ours, tmp_path):
    written = [characters(token) for token in ours.tokens] + [END]
    (tmp_path / "encoder.json").write_text(json.dumps({t: i for i, t in enumerate(written)}))
    merges = [f"{written[left]} {written[right]}\n" for left, right in ours.merges]
    (tmp_path / "vocab.bpe").write_text("#version: 0.2\n" + "".join(merges), encoding="utf-8")
    return tmp_path / "encoder.json", tmp_path / "vocab.bpe"


# ---- GPT-2's pair of files ----------------------------------------------------------------------


def test_gpt2s_files(ours, gpt2_files, tmp_path):
    read = BPE.from_gpt2(*gpt2_files)
    assert read.encode(REAL) == ours.encode(REAL)
    assert read.special_tokens == {END: 300}
    assert read.merges == ours.merges
    read.save(tmp_path / "tokenizer.json")
    assert tokenizers.load(tmp_path / "tokenizer.json").to_dict() == read.to_dict()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (0, b"{", b"", "encoder.json: not a JSON file"),
        (0, b'"a": 97', b'"a": 98', "encoder.json: the file gives the id 98 to both 'a' and 'b'"),
        (0, b'"a": 97', b'"zzz": 97', "encoder.json: the file lacks 'a'"),
        (0, b'"a": 97, ', b"", "encoder.json: the file has no token with id 97"),
        (1, b"\n", b"\nx yz\n", "vocab.bpe: line 2 needs the token 'yz'"),
        (1, b"\n", b"\nx\n", 'vocab.bpe: line 2 is "x", not two tokens'),
        (1, b"\n", b"\n\xff y\n", "vocab.bpe: not UTF-8 at byte 14"),
        (1, b"", None, "vocab.bpe: line 45 has no end"),
    ],
)
def test_damaged_gpt2_files(gpt2_files, file, old, new, message):
    damaged = gpt2_files[file]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] if new is None else content.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        BPE.from_gpt2(*gpt2_files)


@pytest.fixture(scope="module")
def gpt2():
    folder = backend.data_folder()
    if folder is None or not (folder / "gpt2" / "vocab.bpe").exists():
        pytest.skip("GPT-2's vocabulary is not at hand: set TINYGPT_DATA")
    return BPE.from_gpt2(folder / "gpt2" / "encoder.json", folder / "gpt2" / "vocab.bpe")


def test_gpt2_by_hand(gpt2):
    assert gpt2.vocab_size == 50257
    assert gpt2.encode("Hello, world!") == [15496, 11, 995, 0]
    assert gpt2.encode("a" + END, allowed_special="all") == [64, 50256]
    assert gpt2.decode([31373, 6827]) == "hello sentence"


@pytest.fixture(scope="module")
def tiktoken_gpt2(gpt2):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    ranks = {token: i for i, token in enumerate(gpt2.tokens[:-1])}
    return tiktoken.Encoding(
        "gpt2", pat_str=NAMED["gpt2"], mergeable_ranks=ranks, special_tokens={END: 50256}
    )


@given(any_text)
@example(REAL)
@example("a" * 5000)
@example(" " * 5000)
def test_gpt2s_ids_are_tiktokens(gpt2, tiktoken_gpt2, text):
    ids = gpt2.encode(text, allowed_special="all")
    assert ids == tiktoken_gpt2.encode(text, allowed_special="all")
    assert gpt2.decode_bytes(ids) == text.encode()


# ---- tiktoken's ranks ---------------------------------------------------------------------------


def test_tiktokens_file(ours, ranks, tmp_path):
    read = BPE.from_tiktoken(ranks, "gpt2", SPECIAL)
    assert read.encode(REAL) == ours.encode(REAL)
    assert read.vocab_size == 303
    assert read.encode(f"a{END}b<|im_start|>", "all") == [97, 300, 98, 302]
    with pytest.raises(ValueError, match="id 301 is not in use"):
        read.decode([97, 301])
    read.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(tmp_path / "tokenizer.json")
    assert loaded.tokens == read.tokens
    assert loaded.encode(REAL) == ours.encode(REAL)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"YQ== 97", b"YQ== 97.5", r"line 98 is b'YQ== 97.5'; expected a token in base64"),
        (b"YQ== 97", b"YQ== -7", r"line 98 is b'YQ== -7'"),
        (b"YQ== 97", b"YQ 97", r"line 98 is b'YQ 97'"),
        (b"YQ== 97", b"YQ==", r"line 98 is b'YQ=='"),
        (b"YQ== 97", b"YQ== 98", r"rank 98 is given to b'a' and to b'b'"),
        (b"YQ== 97", b"YQ== 300", r"the rank of b'a' is 300, but 300 tokens"),
        (b"YQ== 97", b"Yg== 97", r"line 99 has b'b' a second time"),
        (b"YQ== 97\n", b"", r"has no token for byte 97"),
        (b"", None, r"line 300 has no end"),
    ],
)
def test_damaged_tiktoken_files(ranks, old, new, message):
    content = ranks.read_bytes()
    ranks.write_bytes(content[:-1] if new is None else content.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"small\.tiktoken: {message}"):
        BPE.from_tiktoken(ranks, "gpt2")


def test_special_tokens_with_impossible_ids(ranks):
    for i in (97, -1, 1.5, 1 << 60):
        with pytest.raises(ValueError, match="special token '<x>' has"):
            BPE.from_tiktoken(ranks, "gpt2", {"<x>": i})


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=2, max_size=4), max_size=60), any_text)
@example([b"aaa", b"aa", b"aaaa"], "a" * 50)
def test_any_ranks_give_tiktokens_ids(tokens, text):
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    from tinygpt.tokenizers.formats import openai

    text += text.encode("utf-8").decode("latin-1")
    # Also tokens that no merge makes: only a word that is such a token becomes it.
    every = dict.fromkeys([*[bytes([b]) for b in range(256)], *tokens, b"ab", b"qzx", b" \xc3"])
    ranks = {token: i for i, token in enumerate(every)}
    merges = openai.merges_of(ranks)
    ours = BPE([*ranks], merges, "gpt4", whole_words=True, ranks_by_id=True)
    peer = tiktoken.Encoding("odd", pat_str=NAMED["gpt4"], mergeable_ranks=ranks, special_tokens={})
    assert ours.encode(text) == peer.encode(text)


# ---- tokenizer.json, as others write it ---------------------------------------------------------


def made_by_tokenizers(kind):
    """A tokenizer.json with the steps of a real one, and a vocabulary trained here."""
    pytest.importorskip("tokenizers.models", reason="the tokenizers package is not installed")
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    trained = Tokenizer(models.BPE())
    pattern = LLAMA3_TEXT.replace("{1,3}", "" if kind == "qwen2.5" else "{1,3}")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    trained.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    if kind == "gpt2":
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if kind == "qwen2.5":
        trained.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    trained.train_from_iterator(REAL.splitlines(keepends=True), trainer)
    if kind == "llama3":  # a whole word that is a token is that token; try with one no merge makes
        d = json.loads(trained.to_str())
        d["model"]["ignore_merges"] = True
        d["model"]["vocab"]["Ġproceed"] = len(d["model"]["vocab"])
        trained = Tokenizer.from_str(json.dumps(d))
    trained.decoder = decoders.ByteLevel()
    trained.add_special_tokens([END, "<|begin_of_text|>"])
    trained.post_processor = processors.ByteLevel(trim_offsets=False)
    if kind == "llama3":
        template = processors.TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", trained.token_to_id("<|begin_of_text|>"))],
        )
        trained.post_processor = processors.Sequence([trained.post_processor, template])
    if kind == "qwen2.5":
        trained.add_tokens([AddedToken("<tool_call>", normalized=False)])
    return trained


@pytest.fixture(scope="module", params=["gpt2", "llama3", "qwen2.5"])
def pair(request):
    theirs = made_by_tokenizers(request.param)
    return tokenizers.from_dict(json.loads(theirs.to_str())), theirs


@settings(max_examples=60)
@given(text=any_text)
@example(REAL)
@example(f"a {END}<tool_call> b<|begin_of_text|>")
def test_ids_are_those_of_tokenizers(pair, text):
    ours, theirs = pair
    ids = ours.encode(text, allowed_special="all")
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    with_template = ours.encode(text, allowed_special="all", add_special_tokens=True)
    assert with_template == theirs.encode(text).ids
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


def test_what_we_write_of_it_is_read_there(pair):
    ours, theirs = pair
    from tokenizers import Tokenizer

    again = Tokenizer.from_str(json.dumps(ours.to_dict()))
    text = f"{REAL} a{END}<tool_call>b"
    assert again.encode(text).ids == theirs.encode(text).ids
    assert tokenizers.from_dict(ours.to_dict()).to_dict() == ours.to_dict()


def test_added_tokens_and_templates():
    tokenizer = BPE(
        [bytes([b]) for b in range(256)] + [b"<s>", b"<tool>"],
        {},
        special_tokens={"<s>": 256},
        added_tokens={"<tool>": 257},
        form="NFC",
    )
    assert tokenizer.encode("a<tool>") == [97, 257]
    assert tokenizer.decode(tokenizer.encode("e\u0301")) == "\u00e9"
    with pytest.raises(ValueError, match="special token '<s>' at offset 7 "):
        tokenizer.encode("a<tool><s>")
