"""The file of verdicts that a measurement writes, operation by operation."""

import json
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any, Final

from tools.measure.answers import Seen

Json = dict[str, Any]

_RANK: Final = {"absent": 0, "null": 1, "seen": 2}


class Recorded:
    """Verdicts by operation. What the file has of other fields stays in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._document: Json = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def fields(self, operation: str) -> Set[str]:
        """The fields of a request that have a verdict."""
        return frozenset(self._document.get(operation, {}).get("request", {}))

    def field(self, operation: str, path: str, verdict: Json) -> None:
        """Record the verdict on one field."""
        places = self._document.setdefault(operation, {})
        places.pop("refused", None)
        places.setdefault("request", {})[path] = verdict

    def operation_refused(self, operation: str, error: str) -> None:
        """Record that the engine does not have an operation."""
        self._document[operation] = {"refused": {"error": error}}
        self._write()

    def seen(self, operation: str, places: Mapping[str, Seen]) -> None:
        """Record which fields of answers and events were seen, in this run or in one before; writes the file."""
        known = self._document.setdefault(operation, {})
        for place, seen in places.items():
            before = known.get(place, {})
            known[place] = {
                path: max(what, before.get(path, what), key=_RANK.__getitem__) for path, what in seen.verdicts().items()
            }
        self._write()

    def _write(self) -> None:
        self._path.write_text(as_text(self._document), encoding="utf-8")


def as_text(document: Json) -> str:
    """One line for each field, sorted, so that a change reads well as a difference."""
    operations_text = []
    for name in sorted(document):
        places = []
        for place in sorted(document[name]):
            rows = document[name][place]
            lines = [f"   {json.dumps(path)}: {json.dumps(rows[path], ensure_ascii=False)}" for path in sorted(rows)]
            places.append(f"  {json.dumps(place)}: {{\n" + ",\n".join(lines) + "\n  }")
        operations_text.append(f" {json.dumps(name)}: {{\n" + ",\n".join(places) + "\n }")
    return "{\n" + ",\n".join(operations_text) + "\n}\n"
