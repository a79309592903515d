"""openapi.json in pieces: what is joined of them is whole, and has nothing else."""

import json
import re

import pytest

from aibrix_extproc.interfaces.catalogue import deprecations
from aibrix_extproc.interfaces.document import KEPT, Document, read_document
from tests.architecture.sources import ROOT

SHIPPED = ROOT / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> Document:
    return read_document()


@pytest.mark.parametrize("chosen", [{"chat_completion"}, {"message", "list_models"}, {"delete_file"}])
def test_part_refers_to_what_it_has_and_has_nothing_else(document: Document, chosen: set[str]) -> None:
    text = document.cut(frozenset(chosen)).body
    made = json.loads(text)
    assert {one["operationId"] for methods in made["paths"].values() for one in methods.values()} == chosen
    there = {(kind, name) for kind, named in made["components"].items() for name in named if kind != "securitySchemes"}
    referred = set(re.findall(r'"#/components/(\w+)/([\w.-]+)"', text.decode()))
    assert referred == there
    assert {tag["name"] for tag in made["tags"]} == {
        tag for methods in made["paths"].values() for one in methods.values() for tag in one["tags"]
    }


def test_whole_document_is_the_shipped_one(document: Document) -> None:
    shipped = json.loads(SHIPPED.read_text("utf-8"))
    made = json.loads(document.cut(frozenset(document.operations)).body)
    assert made == {name: shipped[name] for name in made}


def test_schema_of_an_operation_stands_alone(document: Document) -> None:
    for name in document.operations:
        schemas = json.loads(b"{%s}" % document.schemas(name))
        for schema in schemas.values():
            referred = set(re.findall(r'"#/\$defs/([\w.-]+)"', json.dumps(schema)))
            assert referred == set(schema.get("$defs", ()))


def test_documents_are_made_once_and_bounded(document: Document) -> None:
    names = list(document.operations)
    first = document.cut(frozenset(names[:1]))
    assert document.cut(frozenset(names[:1])) is first
    for name in names[1 : KEPT + 2]:
        document.cut(frozenset({name}))
    assert document.cut(frozenset(names[:1])) is not first


def test_fields_that_have_a_successor_are_there_with_it(document: Document) -> None:
    for operation, replaced in deprecations().items():
        schema = json.loads(b"{%s}" % document.schemas(operation))["input_schema"]
        fields = schema["$defs"][schema["$ref"].removeprefix("#/$defs/")]["properties"]
        assert set(replaced.values()) <= set(fields)
        assert {name for name, value in fields.items() if value.get("deprecated")} == set(replaced)
