"""How a tokenizer.json writes a byte-level BPE: GPT-2's, Llama 3's, Qwen 2.5's and our own.

JSON holds characters, and tokens are bytes. So each byte is written as a character of its own, the
way GPT-2's encoder.py does: a printable byte as the character with its number, and the other 68
as the characters from U+0100 up. A space is "Ġ", a newline "Ċ".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..patterns import NAMED, compiled
from ..steps.template import read_template, write_template
from . import tokenizer_json
from .tokenizer_json import Field, read_added_tokens, read_merge, write_added_tokens

if TYPE_CHECKING:
    from ..bpe import BPE

Pair = tuple[int, int]

PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
CHARACTER = [chr(b) if b in PRINTABLE else chr(0x100 + OTHERS.index(b)) for b in range(256)]
BYTE = {character: byte for byte, character in enumerate(CHARACTER)}

# Options of which we have one setting: the first here is what we write, others mean the same.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
MODEL: dict[str, list[Any]] = {
    "dropout": [None],
    "unk_token": [None],
    "continuing_subword_prefix": [None, ""],
    "end_of_word_suffix": [None, ""],
    "fuse_unk": [False, None],
    "byte_fallback": [False, None],
    "ignore_merges": [False, None, True],
}


def characters(token: bytes) -> str:
    """A token as the file writes it: b" the" -> "Ġthe"."""
    return "".join([CHARACTER[byte] for byte in token])


def token_bytes(written: str) -> bytes | None:
    """The reverse of characters; None where the string is not made of those 256."""
    try:
        return bytes([BYTE[character] for character in written])
    except KeyError:
        return None


def to_dict(tokenizer: BPE) -> dict[str, Any]:
    """A BPE -> the JSON object of its tokenizer.json."""
    outside = tokenizer.special_tokens | tokenizer.added_tokens
    outside_ids = set(outside.values())
    written = {
        i: characters(token)
        for i, token in enumerate(tokenizer.tokens)
        if token is not None and i not in outside_ids
    }
    options = {name: settings[0] for name, settings in MODEL.items()}
    options["ignore_merges"] = tokenizer.whole_words
    in_order = sorted(tokenizer.merges, key=tokenizer.ranks.__getitem__)
    return tokenizer_json.layout(
        added_tokens=write_added_tokens(tokenizer.special_tokens, tokenizer.added_tokens),
        normalizer=None if tokenizer.form is None else {"type": tokenizer.form},
        pre_tokenizer=pre_tokenizer(tokenizer.pattern),
        post_processor=write_template(tokenizer.template, outside),
        decoder=BYTE_LEVEL | {"use_regex": True},
        model={
            "type": "BPE",
            **options,
            "vocab": {token: i for i, token in written.items()},
            "merges": [f"{written[left]} {written[right]}" for left, right in in_order],
        },
    )


def from_dict(d: dict[str, Any], source: str) -> dict[str, Any]:
    """The reverse of to_dict: what to give to BPE(...)."""
    root = tokenizer_json.root(d, source)
    form = root["normalizer"].value
    if form is not None:
        root["normalizer"].may_have("type")
        form = root["normalizer"]["type"].must_be("NFC", "NFD", "NFKC", "NFKD")
    pattern = read_pattern(root["pre_tokenizer"])
    root["decoder"]["type"].must_be("ByteLevel")

    model = root["model"]
    model.may_have("type", "vocab", "merges", *MODEL)
    model["type"].must_be("BPE")
    for name, supported in MODEL.items():
        model[name].must_be(*supported)

    vocab = model["vocab"].a(dict)
    special, added = read_added_tokens(root["added_tokens"], vocab, normalized=form is None)
    outside = special | added
    tokens = read_tokens(model["vocab"], outside)
    ids = {written: i for written, i in vocab.items() if written not in outside}
    merges: dict[Pair, int] = {}
    for entry in model["merges"]:
        read_merge(entry, ids, merges)
    return {
        "tokens": tokens,
        "merges": merges,
        "pattern": pattern,
        "special_tokens": special,
        "added_tokens": added,
        "form": form,
        "whole_words": model["ignore_merges"].value is True,
        "template": read_template(root["post_processor"], outside),
    }


def pre_tokenizer(pattern: str) -> dict[str, Any]:
    """What cuts text into words. ByteLevel knows GPT-2's pattern; others go before it."""
    if pattern in ("gpt2", "none"):
        return BYTE_LEVEL | {"use_regex": pattern == "gpt2"}
    regex = {"Regex": NAMED.get(pattern, pattern)}
    split = {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL | {"use_regex": False}]}


def read_pattern(field: Field) -> str:
    """The reverse of pre_tokenizer."""
    field["type"].must_be("ByteLevel", "Sequence")
    if field["type"].value == "ByteLevel":
        return "gpt2" if read_byte_level(field) else "none"

    field.may_have("type", "pretokenizers")
    steps = list(field["pretokenizers"])
    if len(steps) != 2:
        raise field["pretokenizers"].error("should hold two steps, Split and ByteLevel")
    split, byte_level = steps
    split.may_have("type", "pattern", "behavior", "invert")
    split["type"].must_be("Split")
    split["behavior"].must_be("Isolated")
    split["invert"].must_be(False)
    split["pattern"].may_have("Regex")
    if read_byte_level(byte_level):
        raise byte_level["use_regex"].error("is true after a Split, which is not supported")

    expression = split["pattern"]["Regex"].a(str)
    names = {known: name for name, known in NAMED.items() if known}
    try:
        compiled(names.get(expression, expression))
    except ValueError as error:
        raise split["pattern"]["Regex"].error(str(error)) from None
    return names.get(expression, expression)


def read_byte_level(field: Field) -> bool:
    """A ByteLevel pre-tokenizer: whether it cuts by GPT-2's pattern."""
    field.may_have(*BYTE_LEVEL, "use_regex")
    field["type"].must_be("ByteLevel")
    field["add_prefix_space"].must_be(False)
    return field["use_regex"].must_be(True, False, None) is not False


def read_tokens(field: Field, outside: dict[str, int]) -> list[bytes | None]:
    """The bytes of each id. `outside`: tokens that are written as they are."""
    tokens: list[bytes | None] = []
    for written in field.by_id(outside):
        if written is None or written in outside:
            tokens.append(None if written is None else written.encode("utf-8"))
            continue
        token = token_bytes(written)
        if not token:
            raise field.error(f"has {written!r}, which does not spell bytes as GPT-2 does")
        tokens.append(token)
    for byte, character in enumerate(CHARACTER):
        if character not in field.value or character in outside:
            raise field.error(f"lacks {character!r}, which stands for byte {byte}")
    return tokens
