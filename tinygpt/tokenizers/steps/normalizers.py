"""What happens to a text before it is cut: Unicode forms, lower case, accents, blanks.

A normalizer here is a function from text to text, made from what a tokenizer.json says under
"normalizer". All of them can lose something; which is said beside each.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable

from ..formats.tokenizer_json import Field
from .charsmap import read_charsmap

Normalizer = Callable[[str], str]

CHINESE = (
    "([\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f"
    "\U0002b920-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f])"  # as tokenizers has them
)


def read_normalizer(field: Field) -> Normalizer | None:
    """The function that a normalizer in a tokenizer.json stands for; None for null."""
    if field.value is None:
        return None
    kind = field["type"].must_be(*READERS)
    return READERS[kind](field)


def unicode_form(field: Field) -> Normalizer:
    """NFC and NFD keep what a text looks like; NFKC and NFKD also turn ligatures, superscripts
    and the like into plain letters. Nothing brings the text back."""
    field.may_have("type")
    return functools.partial(unicodedata.normalize, field["type"].value)


def lowercase(field: Field) -> Normalizer:
    field.may_have("type")
    return lower


def lower(text: str) -> str:
    """Lower case letter by letter: str.lower() looks around a capital sigma, the peers do not."""
    return text.replace("Σ", "σ").lower() if "Σ" in text else text.lower()


def strip_accents(field: Field) -> Normalizer:
    """Marks go. Letters keep theirs where they are one character: NFD has to come first."""
    field.may_have("type")
    return lambda text: without(text, "Mn", "Mc", "Me")


def without(text: str, *categories: str) -> str:
    """The text without the characters of these Unicode categories."""
    if text.isascii():
        return text
    return "".join([c for c in text if unicodedata.category(c) not in categories])


def strip(field: Field) -> Normalizer:
    field.may_have("type", "strip_left", "strip_right")
    left, right = (
        field["strip_left"].must_be(True, False),
        field["strip_right"].must_be(True, False),
    )
    if left and right:
        return str.strip
    return str.lstrip if left else str.rstrip if right else str


def prepend(field: Field) -> Normalizer:
    field.may_have("type", "prepend")
    what = field["prepend"].a(str)
    return lambda text: what + text if text else text


def replace(field: Field) -> Normalizer:
    field.may_have("type", "pattern", "content")
    find = search(field["pattern"])
    content = field["content"].a(str)
    return lambda text: find.sub(lambda _: content, text)


def search(field: Field):
    """The expression of {"String": ...} or {"Regex": ...}."""
    import regex

    field.may_have("String", "Regex")
    if len(field.a(dict)) != 1:
        raise field.error("should have one of String and Regex")
    if "String" in field.value:
        return regex.compile(regex.escape(field["String"].a(str), literal_spaces=True))
    try:
        return regex.compile(field["Regex"].a(str))
    except regex.error as error:
        raise field["Regex"].error(f"is not a regular expression: {error}") from None


def precompiled(field: Field) -> Normalizer:
    """SentencePiece's table of replacements, as a T5 has it: NFKC and a few things more."""
    field.may_have("type", "precompiled_charsmap")
    return read_charsmap(field["precompiled_charsmap"]).by_cluster


@dataclasses.dataclass(frozen=True)
class BertNormalizer:
    """BERT's own: control characters go, blanks become spaces, Chinese characters stand alone,
    and in an uncased model capitals and accents go. strip_accents None: as lowercase."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __call__(self, text: str) -> str:
        if self.clean_text:
            text = clean_text(text)
        if self.handle_chinese_chars and not text.isascii():
            text = re.sub(CHINESE, r" \1 ", text)
        accents = self.lowercase if self.strip_accents is None else self.strip_accents
        if accents and not text.isascii():
            text = "".join([c for c in unicodedata.normalize("NFD", text) if not is_accent(c)])
        return lower(text) if self.lowercase else text


def is_accent(c: str) -> bool:
    """Marks that take no room, as Unicode 8 had them, by which `tokenizers` still goes."""
    if c in "\u1734\u1885\u1886":  # have changed sides since
        return c == "\u1734"
    return unicodedata.category(c) == "Mn"


def bert(field: Field) -> BertNormalizer:
    options = [option.name for option in dataclasses.fields(BertNormalizer)]
    field.may_have("type", *options)
    field["type"].must_be("BertNormalizer")
    for option in options:
        field[option].must_be(True, False, *([None] if option == "strip_accents" else []))
    return BertNormalizer(**{option: field[option].value for option in options})


def clean_text(text: str) -> str:
    """Blanks become spaces. NUL, U+FFFD and all control characters go."""
    return text.translate(CLEAN)


class Clean(dict[int, str]):
    """For str.translate: {code of a character: what clean_text makes of it}."""

    def __missing__(self, code: int) -> str:
        c = chr(code)
        if c in "\t\n\r":
            kept = " "
        elif c in "\0\ufffd" or unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs"):
            kept = ""
        else:
            kept = " " if c.isspace() else c
        self[code] = kept
        return kept


CLEAN = Clean()


def sequence(field: Field) -> Normalizer:
    field.may_have("type", "normalizers")
    steps = [step for step in map(read_normalizer, field["normalizers"]) if step is not None]

    def normalize(text: str) -> str:
        for step in steps:
            text = step(text)
        return text

    return normalize


READERS: dict[str, Callable[[Field], Normalizer]] = {
    "NFC": unicode_form,
    "NFD": unicode_form,
    "NFKC": unicode_form,
    "NFKD": unicode_form,
    "Lowercase": lowercase,
    "StripAccents": strip_accents,
    "Strip": strip,
    "Prepend": prepend,
    "Replace": replace,
    "Precompiled": precompiled,
    "BertNormalizer": bert,
    "Sequence": sequence,
}
