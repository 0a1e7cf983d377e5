"""How a tokenizer.json writes a byte-level BPE.

JSON holds characters, and tokens are bytes. So each byte is written as a character of its own, the
way GPT-2's encoder.py does: a printable byte as the character with its number, and the other 68
as the characters from U+0100 up. A space is "Ġ", a newline "Ċ".
"""

from __future__ import annotations

from typing import Any

from . import tokenizer_json
from .patterns import NAMED, compiled
from .tokenizer_json import Field

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
    "ignore_merges": [False, None],
}
ADDED_TOKEN: dict[str, list[Any]] = {
    "single_word": [False],
    "lstrip": [False],
    "rstrip": [False],
    "normalized": [False, True],  # says nothing where there is no normalizer
    "special": [True],
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


def to_dict(
    tokens: list[bytes],
    merges: dict[tuple[int, int], int],
    pattern: str,
    special_tokens: dict[str, int],
) -> dict[str, Any]:
    """The parts of a BPE -> the JSON object of its tokenizer.json."""
    written = [characters(token) for token in tokens]
    special_ids = set(special_tokens.values())
    options = {name: settings[0] for name, settings in MODEL.items()}
    flags = {name: settings[0] for name, settings in ADDED_TOKEN.items()}
    vocab = {token: i for i, token in enumerate(written) if i not in special_ids}
    pairs = [f"{written[left]} {written[right]}" for left, right in merges]
    return tokenizer_json.layout(
        added_tokens=[{"id": i, "content": token} | flags for token, i in special_tokens.items()],
        pre_tokenizer=pre_tokenizer(pattern),
        decoder=BYTE_LEVEL | {"use_regex": True},
        model={"type": "BPE", **options, "vocab": vocab, "merges": pairs},
    )


def from_dict(
    d: dict[str, Any], source: str
) -> tuple[list[bytes], dict[tuple[int, int], int], str, dict[str, int]]:
    """The reverse of to_dict: tokens, merges, pattern, special tokens."""
    root = tokenizer_json.root(d, source)
    pattern = read_pattern(root["pre_tokenizer"])
    if root["post_processor"].value is not None:  # this one only moves offsets
        root["post_processor"]["type"].must_be("ByteLevel")
    root["decoder"]["type"].must_be("ByteLevel")

    model = root["model"]
    model.may_have("type", "vocab", "merges", *MODEL)
    model["type"].must_be("BPE")
    for name, supported in MODEL.items():
        model[name].must_be(*supported)

    special_tokens = read_special_tokens(root["added_tokens"], model["vocab"].a(dict))
    tokens = []
    for written in model["vocab"].by_id(special_tokens):
        token = written.encode("utf-8") if written in special_tokens else token_bytes(written)
        if not token:
            raise model["vocab"].error(f"has {written!r}, which does not spell bytes as GPT-2 does")
        tokens.append(token)
    ids = {w: i for w, i in model["vocab"].value.items() if w not in special_tokens}
    for byte, character in enumerate(CHARACTER):
        if character not in ids:
            raise model["vocab"].error(f"lacks {character!r}, which stands for byte {byte}")
    return tokens, read_merges(model["merges"], ids), pattern, special_tokens


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


def read_special_tokens(field: Field, vocab: dict[str, int]) -> dict[str, int]:
    """{token: id}; a file may give special tokens in the vocabulary as well."""
    special_tokens: dict[str, int] = {}
    for entry in field:
        entry.may_have("id", "content", *ADDED_TOKEN)
        for name, supported in ADDED_TOKEN.items():
            entry[name].must_be(*supported)
        token, i = entry["content"].a(str), entry["id"].a(int)
        if not token or token in special_tokens:
            raise entry["content"].error(f"is {token!r}: empty, or there before")
        if vocab.get(token, i) != i:
            raise entry["id"].error(f"is {i}, but {token!r} has id {vocab[token]} in model.vocab")
        special_tokens[token] = i
    return special_tokens


def read_merges(field: Field, ids: dict[str, int]) -> dict[tuple[int, int], int]:
    """The merges as {pair of ids: new id}, from "a b" or ["a", "b"], in the order of new ids."""
    merges: dict[tuple[int, int], int] = {}
    latest = -1
    for entry in field:
        parts = entry.value.split(" ") if isinstance(entry.value, str) else entry.a(list)
        if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
            raise entry.error(f"is {tokenizer_json.short(entry.value)}, not two tokens")
        for token in (*parts, "".join(parts)):
            if token not in ids:
                raise entry.error(f"needs the token {token!r}, which is not in model.vocab")
        new = ids["".join(parts)]
        if new <= latest:
            raise entry.error(f"makes token {new} after token {latest}; only rising ids: supported")
        latest = new
        merges[ids[parts[0]], ids[parts[1]]] = new
    return merges
