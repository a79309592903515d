"""`python -m tools.schemas.derive`: writes the schemas of the installed SDKs as data files.

Names, types, requiredness and values are facts of the interface and are taken; sentences are their authors' and are
not. A newer SDK shows as a difference of these files.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind

from tools.schemas.sdk_types import ANTHROPIC, ANTHROPIC_VERSION, OPENAI, OPENAI_VERSION, SdkTypes, one_request
from tools.schemas.tidy import tidied
from tools.schemas.unions import discriminated

FOLDER: Final = Path(__file__).parents[2] / "aibrix_extproc" / "interfaces" / "schemas"


class _Generator(GenerateJsonSchema):
    """What pydantic cannot describe (files of a form) becomes bytes; nothing is warned about."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """Say nothing."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        """A type without a schema: an open file, which only a form can carry."""
        return {"type": "string", "contentMediaType": "application/octet-stream"}


def derived(rows: Mapping[str, SdkTypes], sdk: str) -> dict[str, Any]:
    """The document of an SDK: a schema for each place of each operation, with shared definitions."""
    inputs = [
        ((operation, place), "validation", TypeAdapter(kind))
        for operation, row in rows.items()
        for place, kind in _kinds(operation, row)
    ]
    found, shared = TypeAdapter.json_schemas(inputs, schema_generator=_Generator)  # type: ignore[arg-type]
    operations: dict[str, dict[str, Any]] = {}
    for ((operation, place), _), schema in found.items():
        operations.setdefault(operation, {})[place] = schema
    return discriminated(tidied({"source": sdk, "operations": operations, "$defs": shared.get("$defs", {})}))


def _kinds(operation: str, row: SdkTypes) -> Iterator[tuple[str, Any]]:
    name = "".join(part.capitalize() for part in operation.split("_"))
    if row.request is not None:
        yield "request", one_request(row.request, f"{name}Request", row.file)
    if row.query is not None:
        yield "query", one_request(row.query, f"{name}Query")
    if row.answer is not None:
        yield "answer", row.answer
    if row.events is not None:
        yield "events", row.events


def main() -> int:
    """Write both documents."""
    for name, rows, version in (("openai", OPENAI, OPENAI_VERSION), ("anthropic", ANTHROPIC, ANTHROPIC_VERSION)):
        text = json.dumps(derived(rows, f"{name} {version}"), indent=1, sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name} {version}: {len(text)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
