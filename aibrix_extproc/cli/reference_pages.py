"""docs/api/: a page for each operation that users call, and one for operators.

A page is prose written by hand (`aibrix_extproc/interfaces/pages`), whose samples are run by tests, and tables.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from aibrix_extproc.cli.reference_docs import DOCS
from aibrix_extproc.cli.reference_fields import answer_tables, request_tables, stored, support, tried
from aibrix_extproc.cli.reference_markdown import code, page, table
from aibrix_extproc.cli.reference_operation import (
    EVERYWHERE,
    facts,
    field_table,
    operation_section,
    points,
    sample_of,
)
from aibrix_extproc.core.openai.contract.operation_errors import CAUSES, errors_by_cause
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Operation, Role
from aibrix_extproc.core.openai.reference.operation_docs import Field, OperationDoc
from aibrix_extproc.interfaces.catalogue import Interface, catalogue
from aibrix_extproc.interfaces.verdicts import verdicts

SERVED_ACTIONS: Final = (Action.ROUTE, Action.STICKY, Action.LOCAL, Action.METADATA)
_FOLDER: Final = "api"
_LINK: Final = re.compile(r"\]\(([a-z_.-]+\.(?:md|json))")
_NO_DOC: Final = OperationDoc("", "")


def place_of(row: Operation) -> str:
    """The link from docs/api.md to the description of an operation."""
    if row.role is not Role.USER:
        return f"{_FOLDER}/operators.md#{row.id}"
    return f"{_FOLDER}/{same_as(row).id}.md"


def same_as(row: Operation) -> Operation:
    """The operation that is the same but for its path, and comes first in the table; often itself."""
    doc = DOCS[row.id]
    alike = (DOCS.get(other.id, _NO_DOC) for other in OPERATIONS)
    first = next(number for number, other in enumerate(alike) if _plain(other) == _plain(doc))
    return OPERATIONS[first]


def _plain(doc: OperationDoc) -> tuple[object, ...]:
    return doc.summary, doc.request, doc.query, doc.answer


@cache
def pages() -> Mapping[str, Callable[[], str]]:
    """The function that makes each page, by the page's path below docs/."""
    served = [row for row in OPERATIONS if row.action in SERVED_ACTIONS]
    made: dict[str, Callable[[], str]] = {
        f"{_FOLDER}/{row.id}.md": partial(operation_page, row)
        for row in served
        if row.role is Role.USER and same_as(row) is row
    }
    made[f"{_FOLDER}/operators.md"] = operators_page
    return MappingProxyType({name: partial(_below, make, frozenset(made)) for name, make in made.items()})


def _below(make: Callable[[], str], names: frozenset[str]) -> str:
    """A page with the links of its rows, which are relative to docs/, made relative to its folder."""

    def moved(link: re.Match[str]) -> str:
        return link[0] if f"{_FOLDER}/{link[1]}" in names else f"](../{link[1]}"

    return _LINK.sub(moved, make())


def operators_page() -> str:
    """The operations of operators and administrators."""
    rows = [row for row in OPERATIONS if row.action in SERVED_ACTIONS and row.role is not Role.USER]
    head = (
        "Operations for keys with the role `admin`, and for those with the role `operator` that list the operation"
        " ([keys](../keys.md)). For all others each is an unknown URL: 404. Engine operations and what they do to"
        " requests: [engines](../engines.md)."
    )
    contents = table(
        ("method", "path", "what it does"),
        ((row.method, code(row.path), f"[{DOCS[row.id].summary}](#{row.id})") for row in rows),
    )
    return page("Operators", head, contents, *(operation_section(row, DOCS[row.id]) for row in rows))


def operation_page(row: Operation) -> str:
    """The page of one operation."""
    return page(DOCS[row.id].summary, *filter(None, _parts(row, DOCS[row.id])))


def _parts(row: Operation, doc: OperationDoc) -> Iterator[str]:
    paths = [f"`{other.method} {other.path}`" for other in OPERATIONS if _alike(other, row)]
    yield " and ".join(paths) + ". [All operations](../api.md)."
    yield prose(row.id) or f"```python\n{sample_of(doc)}\n```"
    yield "## Facts\n\n" + table(("what", "how"), facts(row, doc))
    interface = catalogue().interfaces.get(row.id, Interface())
    yield from _request(row, doc, interface)
    yield from _answer(row, doc, interface)
    yield points("## Differences to OpenAI", doc.openai)
    yield points("## Differences to a vLLM server", doc.vllm)
    yield points("## Limits", doc.limits)
    yield from _errors(row)


def _alike(other: Operation, row: Operation) -> bool:
    return other.id in DOCS and other.action in SERVED_ACTIONS and same_as(other) is row


def prose(operation: str) -> str:
    """The text about an operation that is written by hand; empty if there is none."""
    file = files("aibrix_extproc.interfaces") / "pages" / f"{operation}.md"
    return file.read_text("utf-8").strip() if file.is_file() else ""


def _request(row: Operation, doc: OperationDoc, interface: Interface) -> Iterator[str]:
    if doc.query:
        told = {one.name: support(row.id, one.name) for one in doc.query} if stored(row.id) else {}
        yield "## Query parameters\n\n" + field_table("parameter", doc.query, "required", told)
    if interface.request is None:
        if doc.request:
            yield "## Request fields\n\n" + field_table("field", doc.request, "required")
        return
    yield from _titled("## Request fields", request_tables(row.id, _meanings(doc.request)))


def _answer(row: Operation, doc: OperationDoc, interface: Interface) -> Iterator[str]:
    same = _answers_like(row.id, interface)
    if same:
        yield f"## Answer fields\n\nThose of [{DOCS[same].summary}]({same}.md#answer-fields)."
        return
    if interface.answer is None:
        if doc.answer:
            yield "## Answer fields\n\n" + field_table("field", doc.answer, "always there")
    else:
        yield from _titled("## Answer fields", answer_tables(row.id, "answer", _meanings(doc.answer)))
    if interface.events is not None:
        yield from _titled("## Event fields", answer_tables(row.id, "events", {}))


def _answers_like(operation: str, interface: Interface) -> str:
    """The measured operation with the same answer, if this one is not measured itself."""
    if operation in verdicts() or interface.answer is None:
        return ""
    known = catalogue().interfaces
    return next((name for name in verdicts() if known[name].answer == interface.answer), "")


def _titled(heading: str, tables: Iterator[tuple[str, str]]) -> Iterator[str]:
    """Tables below one heading, each with a heading of its own but the first."""
    kind = heading.removeprefix("## ").partition(" ")[0]
    for title, text in tables:
        yield f"{heading}\n\n{text}" if not title else f"### {kind}: {title[0].lower()}{title[1:]}\n\n{text}"


def _meanings(listed: tuple[Field, ...]) -> Mapping[str, str]:
    return {one.name: one.meaning for one in listed}


def _errors(row: Operation) -> Iterator[str]:
    own = {cause: keys for cause, keys in errors_by_cause(row).items() if cause not in EVERYWHERE}
    rows = ((f"[{CAUSES[cause].title}](../api.md#causes)", ", ".join(map(code, keys))) for cause, keys in own.items())
    yield "## Errors\n\n" + table(("cause", "errors, besides [those of every operation](../api.md#causes)"), rows)
    provoked = tried(row.id)
    if provoked:
        whose, whom = ("", "") if stored(row.id) else (" of the engine", " to vLLM through the gateway")
        yield f"{_PROVOKED.format(whose=whose, whom=whom)}\n\n{provoked}"


_PROVOKED: Final = (
    "How to provoke errors{whose}: values that were sent{whom}, and the status, code and param of what came back."
)
