"""`python -m tools.conformance.fields`: writes the fields that conformance asks about (make fields).

They are the fields of requests whose wrong types an engine was measured to refuse, each with a value of a wrong type.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aibrix_extproc.interfaces.catalogue import catalogue
from aibrix_extproc.interfaces.fields import fields_of
from aibrix_extproc.interfaces.verdicts import NEWEST, verdicts
from tools.measure.values import Values

TARGET: Final = Path(__file__).resolve().parents[2] / "aibrix_extproc" / "conformance" / "fields.json"
OPERATIONS: Final = ("chat_completion", "completion", "response", "embedding", "tokenize")
_FORMED: Final = "400"


def main() -> None:
    """Write them."""
    TARGET.write_text(text(), encoding="utf-8")


def text() -> str:
    """The file's text."""
    made = {"measured": NEWEST, "operations": {name: dict(_wrong_values(name)) for name in OPERATIONS}}
    return json.dumps(made, indent=1) + "\n"


def _wrong_values(operation: str) -> Iterator[tuple[str, Any]]:
    known, measured = catalogue(), verdicts()[operation]["request"]
    schema = known.interfaces[operation].request
    assert schema is not None
    values = Values(known.definitions, {})
    for field in sorted(fields_of(schema, known.definitions), key=lambda one: one.path):
        told = measured.get(field.path, {})
        if field.top and told.get("wrong", "").startswith(_FORMED) and "otherwise" not in told:
            value = values.wrong(field.schema)
            if value is not None:
                yield field.path, value


if __name__ == "__main__":
    main()
