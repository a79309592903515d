"""Examples of requests and answers, from the pages of the reference; their answers are recorded by `make samples`."""

import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from aibrix_extproc.core.openai.contract.operations import Operation

_REQUEST: Final = re.compile(
    r"^```http\n(?P<method>[A-Z]+) (?P<path>\S+)\n(?:[\w-]+: [^\n]*\n)*(?:\n(?P<body>\{.*?\})\n)?```\n"
    r"(?:\n```json\n(?P<answer>\{.*?\})\n```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Example:
    """A request's body with the answer that came; None where the page does not show it."""

    request: Any = None
    answer: Any = None


_NONE: Final = Example()


def example_of(row: Operation) -> Example:
    """The first example on an operation's page that asks it and is answered well."""
    page = files("aibrix_extproc.interfaces") / "pages" / f"{row.id}.md"
    if not page.is_file():
        return _NONE
    for found in _REQUEST.finditer(page.read_text("utf-8")):
        answer = json.loads(found["answer"]) if found["answer"] else None
        if (found["method"], found["path"]) == (row.method, row.path) and "error" not in (answer or {}):
            return Example(json.loads(found["body"]) if found["body"] else None, answer)
    return _NONE
