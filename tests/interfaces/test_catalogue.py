"""The schemas of operations: whole, derived from what is installed, and described field by field."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import pytest

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.interfaces.catalogue import SDKS, VLLM_VERSIONS, catalogue, references
from tools.schemas.tidy import tidied

FOLDER = files("aibrix_extproc.interfaces")
NAMES = (*SDKS, *(f"vllm-{version}" for version in VLLM_VERSIONS))
CATALOGUE = catalogue()


@cache
def document(name: str) -> dict[str, Any]:
    """As it stands in the package; for reading alone."""
    found: dict[str, Any] = json.loads((FOLDER / "schemas" / f"{name}.json").read_text("utf-8"))
    return found


def objects(found: object) -> Iterator[dict[str, Any]]:
    """Every schema with properties, at any depth. A property may have the name of a keyword."""
    if isinstance(found, dict):
        if "properties" in found:
            yield found
        for key, value in found.items():
            yield from objects(list(value.values()) if key == "properties" else value)
    elif isinstance(found, list):
        for one in found:
            yield from objects(one)


def schemas_of(name: str) -> list[object]:
    """Its schemas without the names that they have."""
    found = document(name)
    return [*found["$defs"].values(), *(one for places in found["operations"].values() for one in places.values())]


@pytest.mark.parametrize("name", SDKS)
def test_schemas_are_those_of_the_installed_sdk(name: str) -> None:
    """`make schemas` brings them up to date. In a process of its own: an SDK in use changes how its types build."""
    upper = name.upper()
    program = (
        "import json; from tools.schemas.derive import derived; from tools.schemas import sdk_types as of;"
        f"print(json.dumps(derived(of.{upper}, '{name} ' + of.{upper}_VERSION)))"
    )
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=120)
    assert json.loads(made.stdout) == document(name)


@pytest.mark.parametrize("name", NAMES)
def test_no_sentence_of_an_author_is_taken(name: str) -> None:
    assert tidied(document(name)) == document(name)


def test_every_field_is_described_and_every_description_is_used() -> None:
    meanings = tomllib.loads((FOLDER / "descriptions.toml").read_text("utf-8"))
    fields = {field for name in NAMES for one in objects(schemas_of(name)) for field in one["properties"]}
    assert fields - set(meanings["names"]) == set()
    assert set(meanings["names"]) - fields == set()
    known = {name: document(one)["$defs"][name]["properties"] for one in NAMES for name in document(one)["$defs"]
             if "properties" in document(one)["$defs"][name]}  # fmt: skip
    for table in (meanings["definitions"], meanings["schemas"]):
        assert {(name, field) for name in table for field in table[name] if field not in known[name]} == set()


def test_every_reference_leads_somewhere() -> None:
    schemas = [
        schema
        for one in CATALOGUE.interfaces.values()
        for schema in (one.request, one.query, one.answer, one.events)
        if schema is not None
    ]
    assert len(schemas) > 50
    for schema in (*schemas, *CATALOGUE.definitions.values()):
        assert set(references(schema)) <= set(CATALOGUE.definitions)


def test_only_operations_of_the_table_have_interfaces() -> None:
    assert set(CATALOGUE.interfaces) <= {row.id for row in OPERATIONS}


def test_a_schema_stands_alone_with_what_it_needs_and_nothing_else() -> None:
    answer = CATALOGUE.interfaces["embedding"].answer
    assert answer is not None
    whole = CATALOGUE.whole(answer)
    assert set(references(whole)) == set(whole["$defs"])
    assert 2 < len(whole["$defs"]) < 6


@pytest.mark.parametrize(
    ("field", "versions", "origin"),
    [("temperature", ["0.32", "0.33"], None), ("store", [], None), ("top_k", ["0.32", "0.33"], "vllm")],
)
def test_a_field_says_who_knows_it(field: str, versions: list[str], origin: str | None) -> None:
    found = CATALOGUE.definitions["openai.ChatCompletionRequest"]["properties"][field]
    assert (found["x-vllm"], found.get("x-origin")) == (versions, origin)


def test_unions_name_the_field_that_tells_their_variants_apart() -> None:
    message = CATALOGUE.definitions["openai.ChatCompletionRequest"]["properties"]["messages"]["items"]
    assert message["discriminator"]["propertyName"] == "role"
    assert message["discriminator"]["mapping"]["user"] == "#/$defs/openai.ChatCompletionUserMessageParam"
