"""What a model wants around a text, as a tokenizer.json says it under "post_processor"."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..formats.tokenizer_json import Field

TEXT, TOKEN = "Sequence", "SpecialToken"
Step = tuple[str, str, int]  # TEXT with "A" or "B", or TOKEN with its name; the type id


class Template(NamedTuple):
    """The special tokens that a model wants around a text, such as [CLS] before, [SEP] after it.

    pair: what it wants around two texts. We do not encode pairs; whoever reads the file that is
    saved may. Nothing: around each of them what goes around one.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    pair: tuple[Step, ...] = ()


def bert(cls: str, sep: str) -> Template:
    """[CLS] A [SEP], and [CLS] A [SEP] B [SEP]."""
    first = (TOKEN, cls, 0), (TEXT, "A", 0), (TOKEN, sep, 0)
    return Template((cls,), (sep,), (*first, (TEXT, "B", 1), (TOKEN, sep, 1)))


def roberta(cls: str, sep: str) -> Template:
    """<s> A </s>, and <s> A </s> </s> B </s>."""
    first = (TOKEN, cls, 0), (TEXT, "A", 0), (TOKEN, sep, 0)
    return Template((cls,), (sep,), (*first, (TOKEN, sep, 0), (TEXT, "B", 0), (TOKEN, sep, 0)))


def read_template(field: Field, ids: dict[str, int]) -> Template:
    """ids: of the special tokens. Nothing where the field is null, or only moves offsets."""
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
    make = bert if kind == "BertProcessing" else roberta
    return make(named(field["cls"], ids), named(field["sep"], ids))


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
    single = read_steps(field["single"], field["special_tokens"], ids)
    texts = [(k, name) for k, (kind, name, _) in enumerate(single) if kind == TEXT]
    if [name for _, name in texts] != ["A"]:
        raise field["single"].error("has not one place for the text, A")
    place = texts[0][0]
    before, after = single[:place], single[place + 1 :]
    pair = field["pair"]
    return Template(
        tuple(token for _, token, _ in before),
        tuple(token for _, token, _ in after),
        () if pair.value is None else tuple(read_steps(pair, field["special_tokens"], ids)),
    )


def read_steps(field: Field, special_tokens: Field, ids: dict[str, int]) -> list[Step]:
    steps: list[Step] = []
    for step in field:
        step.may_have(TEXT, TOKEN)
        kind = TEXT if TEXT in step.a(dict) else TOKEN
        step[kind].may_have("id", "type_id")
        name, type_id = step[kind]["id"], step[kind]["type_id"].a(int)
        if kind == TEXT:
            steps.append((TEXT, name.must_be("A", "B"), type_id))
            continue
        entry = special_tokens[name.a(str)]
        entry.may_have("id", "ids", "tokens")
        tokens = entry["tokens"].a(list)
        for token, i in zip(tokens, entry["ids"].a(list), strict=False):
            if ids.get(token) != i:
                raise entry.error(f"gives {token!r} the id {i}, which is not that of such a token")
        if len(tokens) != len(entry["ids"].value):
            raise entry.error("has not as many ids as tokens")
        steps += [(TOKEN, token, type_id) for token in tokens]
    return steps


def write_template(template: Template, ids: dict[str, int]) -> dict[str, Any] | None:
    """The reverse of read_template."""
    if template == Template():
        return None

    def around(text: str, type_id: int) -> list[Step]:
        before = [(TOKEN, token, type_id) for token in template.before]
        after = [(TOKEN, token, type_id) for token in template.after]
        return [*before, (TEXT, text, type_id), *after]

    single = around("A", 0)
    pair = template.pair or single + around("B", 1)
    tokens = {
        token: {"id": token, "ids": [ids[token]], "tokens": [token]}
        for kind, token, _ in (*single, *pair)
        if kind == TOKEN
    }
    return {
        "type": "TemplateProcessing",
        "single": [{kind: {"id": name, "type_id": i}} for kind, name, i in single],
        "pair": [{kind: {"id": name, "type_id": i}} for kind, name, i in pair],
        "special_tokens": tokens,
    }
