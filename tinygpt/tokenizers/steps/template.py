"""What a model wants around a text, as a tokenizer.json says it under "post_processor"."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..formats.tokenizer_json import Field


class Template(NamedTuple):
    """The special tokens that a model wants around a text, such as [CLS] before, [SEP] after it."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def read_template(field: Field, ids: dict[str, int]) -> Template:
    """The template for one text; those for pairs of texts are read over.

    ids: of the special tokens. Nothing where the field is null, or only moves offsets.
    """
    if field.value is None:
        return Template()
    kind = field["type"].must_be(
        "ByteLevel", "TemplateProcessing", "BertProcessing", "RobertaProcessing", "Sequence"
    )
    if kind == "ByteLevel":
        return Template()
    if kind == "Sequence":
        found = [read_template(step, ids) for step in field["processors"]]
        found = [template for template in found if template != Template()]
        if len(found) > 1:
            raise field["processors"].error("has two that add tokens; supported: one")
        return found[0] if found else Template()
    if kind == "TemplateProcessing":
        return template_processing(field, ids)

    field.may_have("type", "sep", "cls", "trim_offsets", "add_prefix_space")
    return Template((named(field["cls"], ids),), (named(field["sep"], ids),))


def named(field: Field, ids: dict[str, int]) -> str:
    """The token of ["[SEP]", 102]."""
    if len(field.a(list)) != 2:
        raise field.error("should be a token and its id")
    token, i = field
    if ids.get(token.a(str)) != i.a(int):
        raise field.error(f"names {token.value!r} with id {i.value}, which is not a special token")
    return token.value


def template_processing(field: Field, ids: dict[str, int]) -> Template:
    field.may_have("type", "single", "pair", "special_tokens")
    sides: tuple[list[str], list[str]] = ([], [])
    seen_text = False
    for step in field["single"]:
        step.may_have("Sequence", "SpecialToken")
        if "Sequence" in step.a(dict):
            if seen_text:
                raise step.error("is a second place for the text; supported: one")
            seen_text = True
            continue
        token = step["SpecialToken"]["id"].a(str)
        entry = field["special_tokens"][token]
        entry.may_have("id", "ids", "tokens")
        names = entry["tokens"].a(list)
        for name, i in zip(names, entry["ids"].a(list), strict=False):
            if ids.get(name) != i:
                raise entry.error(f"gives {name!r} the id {i}, which is not that of such a token")
        if len(names) != len(entry["ids"].value):
            raise entry.error("has not as many ids as tokens")
        sides[seen_text].extend(names)
    if not seen_text:
        raise field["single"].error("has no place for the text")
    return Template(tuple(sides[0]), tuple(sides[1]))


def write_template(template: Template, ids: dict[str, int]) -> dict[str, Any] | None:
    """The reverse of read_template; of a pair, both texts get the same around them."""
    if template == Template():
        return None

    def around(sequence: str, type_id: int) -> list[dict[str, Any]]:
        def special(tokens: tuple[str, ...]) -> list[dict[str, Any]]:
            return [{"SpecialToken": {"id": token, "type_id": type_id}} for token in tokens]

        text = {"Sequence": {"id": sequence, "type_id": type_id}}
        return [*special(template.before), text, *special(template.after)]

    tokens = {
        token: {"id": token, "ids": [ids[token]], "tokens": [token]}
        for token in dict.fromkeys((*template.before, *template.after))
    }
    return {
        "type": "TemplateProcessing",
        "single": around("A", 0),
        "pair": around("A", 0) + around("B", 1),
        "special_tokens": tokens,
    }
