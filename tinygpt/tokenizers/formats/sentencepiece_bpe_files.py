"""How a tokenizer.json writes SentencePiece's BPE: Llama 2's and Mistral's files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..steps.template import read_template, write_template
from . import tokenizer_json
from .tokenizer_json import Field, read_added_tokens, write_added_tokens
from .unigram_files import append_added

if TYPE_CHECKING:
    from ..sentencepiece_bpe import SentencePieceBPE

Pair = tuple[int, int]

STEPS = ("normalizer", "pre_tokenizer", "decoder")
MODEL: dict[str, list[Any]] = {
    "dropout": [None],
    "continuing_subword_prefix": [None, ""],
    "end_of_word_suffix": [None, ""],
    "ignore_merges": [False, None],
}


def is_this(root: Field) -> bool:
    """Whether a file with a model of the type BPE is of this kind, and not of bytes."""
    decoder = root["decoder"].value
    if isinstance(decoder, dict) and decoder.get("type") == "ByteLevel":
        return False
    model = root["model"]
    return model["byte_fallback"].value is True or model["unk_token"].value is not None


def to_dict(tokenizer: SentencePieceBPE) -> dict[str, Any]:
    """A SentencePieceBPE -> the JSON object of its tokenizer.json."""
    outside = tokenizer.special_tokens | tokenizer.added_tokens
    in_order = sorted(tokenizer.merges, key=tokenizer.ranks.__getitem__)
    tokens = tokenizer.tokens
    return tokenizer_json.layout(
        added_tokens=write_added_tokens(tokenizer.special_tokens, tokenizer.added_tokens),
        **tokenizer.steps,
        post_processor=write_template(tokenizer.template, outside),
        model={
            "type": "BPE",
            **{name: settings[0] for name, settings in MODEL.items()},
            "unk_token": None if tokenizer.unknown is None else tokens[tokenizer.unknown],
            "fuse_unk": tokenizer.one_unknown,
            "byte_fallback": tokenizer.byte_fallback,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [[tokens[left], tokens[right]] for left, right in in_order],
        },
    )


def from_dict(d: dict[str, Any], source: str) -> dict[str, Any]:
    """The reverse of to_dict: what to give to SentencePieceBPE(...)."""
    root = tokenizer_json.root(d, source)
    model = root["model"]
    model.may_have("type", "vocab", "merges", "unk_token", "fuse_unk", "byte_fallback", *MODEL)
    model["type"].must_be("BPE")
    for name, supported in MODEL.items():
        model[name].must_be(*supported)
    vocab = model["vocab"].a(dict)
    special, added = read_added_tokens(root["added_tokens"], vocab, normalized=False)
    listed = model["vocab"].by_id()
    tokens = [token for token in listed if token is not None]
    append_added(root["added_tokens"], special | added, tokens)

    unknown = model["unk_token"].value
    if unknown is not None and model["unk_token"].a(str) not in vocab:
        raise model["unk_token"].error(f"is {unknown!r}, which is not in model.vocab")
    byte_fallback = model["byte_fallback"].must_be(True, False, None) is True
    if byte_fallback:
        for byte in range(256):
            if f"<0x{byte:02X}>" not in vocab:
                raise model["vocab"].error(f"lacks <0x{byte:02X}>, which byte_fallback needs")
    merges: dict[Pair, int] = {}
    for entry in model["merges"]:
        tokenizer_json.read_merge(entry, vocab, merges)
    return {
        "tokens": tokens,
        "merges": merges,
        "unknown": None if unknown is None else vocab[unknown],
        "special_tokens": special,
        "added_tokens": added,
        "template": read_template(root["post_processor"], special | added),
        "byte_fallback": byte_fallback,
        "one_unknown": model["fuse_unk"].must_be(True, False, None) is True,
        "steps": {name: root[name].value for name in STEPS},
        "source": source,
    }
