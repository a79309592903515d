"""The reference of one operation, from its rows: how to call it, what comes back, what can go wrong."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from aibrix_extproc.cli.reference_markdown import code, table
from aibrix_extproc.core.fleet.model import RUST_FRONTEND
from aibrix_extproc.core.openai.contract.error_row import Cause
from aibrix_extproc.core.openai.contract.operation_errors import CAUSES, errors_by_cause
from aibrix_extproc.core.openai.contract.operations import Action, ModelIn, Operation, Stream, UsageIn
from aibrix_extproc.core.openai.reference.operation_docs import EVENTS, FORM, JSON, Field, OperationDoc

EVERYWHERE: Final = (Cause.KEY, Cause.GATEWAY)  # causes that need no mention with each operation
_HOST: Final = "https://HOST"


def operation_section(operation: Operation, doc: OperationDoc) -> str:
    """A section of its own; its heading is the operation's id."""
    return "\n\n".join(part for part in _parts(operation, doc) if part)


def sample_of(doc: OperationDoc) -> str:
    """The call in Python."""
    return doc.sdk.replace("HOST", _HOST)


def _parts(operation: Operation, doc: OperationDoc) -> Iterator[str]:
    yield f"### {operation.id}"
    yield f"`{operation.method} {operation.path}`"
    yield f"{doc.summary}."
    yield f"```python\n{sample_of(doc)}\n```"
    yield table(("what", "how"), facts(operation, doc))
    yield field_table("in the query string", doc.query, "required")
    yield field_table("in the request", doc.request, "required")
    yield field_table("in the answer", doc.answer, "always there")
    yield points("Differences to OpenAI", doc.openai)
    yield points("Differences to a vLLM server", doc.vllm)
    yield points("Limits of its own", doc.limits)
    yield _errors(operation)


def facts(operation: Operation, doc: OperationDoc) -> Iterator[tuple[str, str]]:
    """Rows of a table: what happens, media types, streams."""
    yield "what happens", operation.action.value + (f" ({operation.note})" if operation.note else "")
    if operation.model_in is not ModelIn.NONE:
        yield "model in", operation.model_in.value
    if operation.tasks:
        yield "engines that can", " or ".join(sorted(operation.tasks))
    if RUST_FRONTEND in operation.lacking_frontends:
        yield "engines that cannot", "vLLM with its Rust frontend: 400 `unsupported_endpoint`"
    if request_type(operation, doc):
        yield "request", code(request_type(operation, doc))
    yield "answer", " or ".join(map(code, answer_types(operation, doc))) or "always an error"
    if operation.stream is not Stream.NONE:
        yield "stream", doc.streaming
    if operation.usage_in is not UsageIn.NONE:
        yield "usage in", code(operation.usage_in.value)
    if operation.action is Action.ROUTE and operation.prompt_param:
        yield "too long a prompt", f"400 `context_length_exceeded` with param {code(operation.prompt_param)}"


def request_type(operation: Operation, doc: OperationDoc) -> str:
    """The media type of the request's body, empty if it has none."""
    return doc.request_media or {ModelIn.JSON: JSON, ModelIn.FORM: FORM}.get(operation.model_in, "")


def answer_types(operation: Operation, doc: OperationDoc) -> tuple[str, ...]:
    """The media types of a good answer."""
    return doc.answer_types if operation.stream is Stream.NONE else (*doc.answer_types, EVENTS)


def field_table(title: str, fields: Sequence[Field], presence: str, support: Mapping[str, str] | None = None) -> str:
    """A table of fields of a row; empty without any. `support` says by name what was done with each."""
    if not fields:
        return ""
    if not support:
        return table((title, "type", presence, "meaning"), (_field(one) for one in fields))
    rows = (_field(one) for one in fields)
    return table(
        (title, "type", presence, "support", "meaning"),
        ((*row[:3], support.get(one.name, ""), row[3]) for one, row in zip(fields, rows, strict=True)),
    )


def _field(one: Field) -> tuple[str, ...]:
    meaning = one.meaning
    if one.values:
        meaning += f": {', '.join(map(code, one.values))}"
    if one.default:
        meaning += f" (default {code(one.default)})"
    return code(one.name), " or ".join(one.kinds), "yes" if one.required else "no", meaning


def points(title: str, listed: Sequence[str]) -> str:
    """A list below a title; empty without any."""
    return (
        f"{title}{'' if title.startswith('#') else ':'}\n\n" + "\n".join(f"- {one}" for one in listed) if listed else ""
    )


def _errors(operation: Operation) -> str:
    own = {cause: keys for cause, keys in errors_by_cause(operation).items() if cause not in EVERYWHERE}
    rows = ((f"[{CAUSES[cause].title}](../api.md#causes)", ", ".join(map(code, keys))) for cause, keys in own.items())
    return table(("cause of errors", "errors, besides [those of every operation](../api.md#causes)"), rows)
