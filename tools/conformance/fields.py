"""`python -m tools.conformance.fields`: writes the fields that conformance asks about (make fields).

They are the fields of requests whose wrong types the newest engine was measured to refuse, and every other that has
the operation, each with a value of a wrong type; and those of OpenAI's fields that the newest takes, each in a good
request.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.interfaces.catalogue import catalogue
from aibrix_extproc.interfaces.fields import FieldAt, fields_of
from aibrix_extproc.interfaces.verdicts import MEASURED, NEWEST, verdicts
from tools.measure.plan import probes
from tools.measure.values import Values

TARGET: Final = Path(__file__).resolve().parents[2] / "aibrix_extproc" / "conformance" / "fields.json"
OPERATIONS: Final = ("chat_completion", "completion", "response", "embedding", "tokenize")
SDK_OPERATIONS: Final = ("chat_completion", "completion", "response", "embedding")
_FORMED: Final = "400"


def main() -> None:
    """Write them."""
    TARGET.write_text(text(), encoding="utf-8")


def text() -> str:
    """The file's text."""
    made = {
        "measured": NEWEST,
        "operations": {name: dict(_wrong_values(name)) for name in OPERATIONS},
        "own": {name: list(_own_fields(name)) for name in OPERATIONS},
        "good": {name: dict(_good_requests(name)) for name in OPERATIONS if name in SDK_OPERATIONS},
    }
    return json.dumps(made, indent=1) + "\n"


def _wrong_values(operation: str) -> Iterator[tuple[str, Any]]:
    known, measured = catalogue(), verdicts()[operation]["request"]
    schema = known.interfaces[operation].request
    assert schema is not None
    values = Values(known.definitions, {})
    for field in sorted(fields_of(schema, known.definitions), key=lambda one: one.path):
        told = measured.get(field.path, {})
        if field.top and "otherwise" not in told and _refused_by_all(operation, field):
            value = values.wrong(field.schema)
            if value is not None:
                yield field.path, value


def _refused_by_all(operation: str, field: FieldAt) -> bool:
    """Whether the newest engine refuses a wrong type, and of OpenAI's fields each other engine that was measured."""
    names = [NEWEST] if field.schema.get("x-origin") == "vllm" else MEASURED
    known = (verdicts(name).get(operation, {}).get("request") for name in names)
    return all(one.get(field.path, {}).get("wrong", "").startswith(_FORMED) for one in known if one is not None)


def _own_fields(operation: str) -> Iterator[str]:
    """Of these fields, those that are vLLM's own: of an operation that no SDK has all of them."""
    known = catalogue()
    schema = known.interfaces[operation].request
    assert schema is not None
    asked = dict(_wrong_values(operation))
    for field in sorted(fields_of(schema, known.definitions), key=lambda one: one.path):
        is_own = operation not in SDK_OPERATIONS or field.schema.get("x-origin") == "vllm"
        if field.path in asked and is_own:
            yield field.path


def _good_requests(operation: str) -> Iterator[tuple[str, Any]]:
    """A good request with each field that is OpenAI's own; nothing that only a running engine can tell."""
    measured = verdicts()[operation]["request"]
    for probe in sorted(probes(operation, vision=False, top=True), key=lambda one: one.field.path):
        path = probe.field.path
        taken = measured.get(path, {}).get("verdict", "refused") != "refused" and "otherwise" not in measured[path]
        request = {name: value for name, value in probe.valid.items() if name != "model"}
        if (
            taken
            and path != "model"
            and probe.field.schema.get("x-origin") != "vllm"
            and "@" not in json.dumps(request)
        ):
            yield path, request


if __name__ == "__main__":
    main()
