"""Paths of fields: each field once, through references, unions, arrays and maps."""

from typing import Any

from aibrix_extproc.interfaces.fields import fields_of

TEXT = {"type": "object", "properties": {"type": {"const": "text"}, "text": {"type": "string"}}, "required": ["text"]}
IMAGE = {"type": "object", "properties": {"type": {"const": "image"}, "again": {"$ref": "#/$defs/Body"}}}
BODY: dict[str, Any] = {
    "type": "object",
    "required": ["parts"],
    "properties": {
        "parts": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [
            {"$ref": "#/$defs/Text"}, {"$ref": "#/$defs/Image"}]}}]},
        "labels": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Text"}},
        "choice": {"anyOf": [{"$ref": "#/$defs/Text"}, {"$ref": "#/$defs/Image"}]},
        "plain": {"type": "object", "properties": {"inner": {"type": "integer"}}},
    },
}  # fmt: skip
DEFINITIONS: dict[str, Any] = {"Text": TEXT, "Image": IMAGE, "Body": BODY}


def test_every_field_has_one_path_that_names_the_variants() -> None:
    assert [field.path for field in fields_of({"$ref": "#/$defs/Body"}, DEFINITIONS)] == [
        "parts", "labels", "choice", "plain", "choice(text).type", "choice(text).text", "choice(image).type",
        "choice(image).again", "plain.inner",
    ]  # fmt: skip


def test_a_union_in_an_array_is_named_in_its_brackets() -> None:
    alone = {"type": "object", "properties": {"parts": BODY["properties"]["parts"]}}
    paths = [field.path for field in fields_of(alone, DEFINITIONS)]
    assert paths[1:5] == ["parts[text].type", "parts[text].text", "parts[image].type", "parts[image].again"]


def test_a_field_knows_its_owner_its_steps_and_whether_it_is_required() -> None:
    found = {field.path: field for field in fields_of({"$ref": "#/$defs/Body"}, DEFINITIONS)}
    text = found["choice(text).text"]
    assert (text.owner, text.name, text.required, text.top) == ("Text", "text", True, False)
    assert (found["parts"].required, found["parts"].top, found["plain.inner"].owner) == (True, True, "")
