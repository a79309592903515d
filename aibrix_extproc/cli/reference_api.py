"""docs/api.md: every row of the operations table, and the headers that mean something."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.cli.reference_markdown import code, page, table
from aibrix_extproc.core.openai import headers
from aibrix_extproc.core.openai.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.operations import Action, Operation

_HEAD: Final = """
One base URL, `http(s)://HOST[:PORT]/v1`, for every OpenAI SDK. A request is matched by method and path; before that,
slashes that repeat are merged, one at the end is dropped, and the query string is put aside. Nothing is resolved or
decoded, but for the model id in `/v1/models/{model}`, which may hold slashes, raw or as `%2F`.

What no row names is a 404, a row with another method a 405 with `Allow`; both come after the key was checked, so a
bad key is a 401 everywhere. `OPTIONS` is answered as a CORS preflight, without a key. Errors: [errors.md](errors.md).
"""

# What happens to the rows of each section, in the order of the page.
SECTIONS: Final[Mapping[Action, tuple[str, str]]] = MappingProxyType({
    Action.ROUTE: (
        "Routed by model",
        "Sent to an engine that serves the model named in the request, and that can do the task.",
    ),
    Action.STICKY: (
        "Routed to the owner",
        "Sent to the engine that made the object, because only that one has it.",
    ),
    Action.LOCAL: ("Answered here", "Answered by the gateway from what it knows of the fleet; no engine is asked."),
    Action.METADATA: (
        "Files, uploads and batches",
        "The metadata service's. A gateway without one answers 404, as for an unknown URL.",
    ),
    Action.ADMIN: (
        "Engines' own administration",
        "Routes of an engine that a user's key must never reach: 404, as for an unknown URL.",
    ),
    Action.REFUSE: (
        "Refused",
        "Known to OpenAI's SDKs or to vLLM, and served by no part of this system: 404, as for an unknown URL.",
    ),
})  # fmt: skip


def api_page() -> str:
    """The page."""
    sections = [_section(action) for action in SECTIONS]
    return page("Operations", _HEAD, *sections, _headers())


def _section(action: Action) -> str:
    title, meaning = SECTIONS[action]
    rows = [_row(operation) for operation in OPERATIONS if operation.action is action]
    head = (
        "method",
        "path",
        "operation",
        "what happens",
        "model in",
        "streaming",
        "usage in",
        "engine's task",
        "notes",
    )
    return f"## {title}\n\n{meaning}\n\n{table(head, rows)}"


def _row(operation: Operation) -> tuple[str, ...]:
    return (
        operation.method,
        code(operation.path),
        code(operation.id),
        operation.action.value,
        operation.model_in.value,
        operation.stream.value,
        operation.usage_in.value,
        ", ".join(sorted(operation.tasks)),
        operation.note,
    )


_HEADERS: Final = (
    (
        "Chosen by the client",
        (headers.ROUTING_STRATEGY, headers.READ_TIMEOUT),
        "how an endpoint is picked (see [strategies.md](strategies.md)); how many seconds to wait for an answer",
    ),
    (
        "Removed from requests",
        headers.RESERVED_REQUEST_HEADERS,
        "only the gateway sets them: a client that could would choose its engine",
    ),
    (
        "Not forwarded to engines",
        headers.NOT_FORWARDED,
        "the client's business with the gateway; an engine with a key of its own gets that one",
    ),
    (
        "Forwarded for some callers only",
        headers.ENGINE_CONTROLS,
        "engines obey them; removed unless the caller has the permission",
    ),
    ("Removed from answers", headers.NOT_RETURNED, "what engines and Envoy say about themselves"),
    (
        "Set on every answer",
        (headers.REQUEST_ID, "openai-version"),
        "the same id stands in the logs; answers of engines also carry openai-processing-ms",
    ),
)


def _headers() -> str:
    rows = ((title, ", ".join(map(code, names)), meaning) for title, names, meaning in _HEADERS)
    return f"## Headers\n\n{table(('what', 'headers', 'why'), rows)}"
