"""A hundred thousand generated texts for every format, against the libraries everyone uses."""

import json
import random

import pytest
from tokenizers_strings import END, REAL

from tinygpt.tokenizers import BPE, Unigram, WordPiece, from_dict, from_sentencepiece
from tinygpt.tokenizers.patterns import NAMED

pytestmark = pytest.mark.slow
MANY = 100_000


def generated(seed):
    """Short texts of words, signs, blanks and single characters that Unicode 3.2 had."""
    import unicodedata

    rng = random.Random(seed)
    old = unicodedata.ucd_3_2_0
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    every = [c for c in every if old.category(c) not in ("Cn", "Co")]
    chunks = [*REAL.split(" "), *" \n\t\r'", "\r\n", "  ", "'s", "'LL", "\0", "🙂", "\u0301"]
    for _ in range(MANY):
        parts = rng.choices(chunks, k=rng.randrange(8))
        parts += rng.choices(every, k=rng.randrange(4))
        rng.shuffle(parts)
        yield rng.choice(("", " ")).join(parts)


def check(ours, theirs, seed=0, long=True):
    """ours, theirs: functions from a text to ids. Short texts, and long ones made of them."""
    texts = list(generated(seed))
    for start in range(0, MANY * long, 1000):
        texts.append("".join(texts[start : start + 1000]))
    for text in texts:
        assert ours(text) == theirs(text), repr(text)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "gpt4o", "qwen2"])
def test_tiktoken(pattern):
    tiktoken = pytest.importorskip("tiktoken")
    ours = BPE.train(REAL * 3, 600, pattern, [END])
    ranks = {token: i for i, token in enumerate(ours.tokens[:-1])}
    theirs = tiktoken.Encoding(
        "peer",
        pat_str=NAMED[pattern],
        mergeable_ranks=ranks,
        special_tokens=ours.special_tokens,
    )
    check(ours.encode, theirs.encode_ordinary)


@pytest.mark.parametrize("kind", ["bpe", "llama3", "wordpiece", "cased", "unigram"])
def test_tokenizers(kind):
    pytest.importorskip("tokenizers.models")
    from tokenizers import Tokenizer

    make = {
        "bpe": lambda: BPE.train(REAL * 3, 600),
        "llama3": lambda: BPE.train(REAL * 3, 600, "gpt4"),
        "wordpiece": lambda: WordPiece.train(REAL * 3, 450),
        "cased": lambda: WordPiece.train(REAL * 3, 450, lowercase=False),
        "unigram": lambda: Unigram.train(REAL * 3, 700),
    }
    ours = from_dict(make[kind]().to_dict())
    theirs = Tokenizer.from_str(json.dumps(ours.to_dict()))
    check(
        lambda text: ours.encode(text, "all"),
        lambda text: theirs.encode(text, add_special_tokens=False).ids,
    )


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("saved", [False, True])
def test_sentencepiece(kind, saved, tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(REAL.splitlines() * 3),
        model_prefix=str(tmp_path / "m"),
        vocab_size=500,
        model_type=kind,
        byte_fallback=kind == "bpe",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    ours = from_sentencepiece(tmp_path / "m.model")
    if not saved:
        peer = sentencepiece.SentencePieceProcessor(str(tmp_path / "m.model"))
        # Scores are sums in float32: after 15,000 tokens too coarse to tell two ways apart.
        check(ours.encode, peer.encode, long=False)
        return
    pytest.importorskip("tokenizers.models")
    from tokenizers import Tokenizer

    loaded = from_dict(ours.to_dict())
    theirs = Tokenizer.from_str(json.dumps(ours.to_dict()))
    check(loaded.encode, lambda text: theirs.encode(text, add_special_tokens=False).ids)
