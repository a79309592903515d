"""docs/errors.md, strategies.md, labels.md and metrics.md there: the tables that need no more than a head."""

from typing import Final

from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.cli.reference_markdown import NOTHING, code, page, table
from aibrix_extproc.core.fleet.podspec import ACTIVE_PORTS, LABELS
from aibrix_extproc.core.openai.errors import ERRORS, ErrorRow
from aibrix_extproc.core.openai.headers import ROUTING_STRATEGY
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY, STRATEGIES
from aibrix_extproc.core.routing.spec import Input, Strategy

_ERRORS_HEAD: Final = """
Whatever fails, the client gets OpenAI's error: `{"error": {"message", "type", "param", "code"}}`, all four keys always
there, `code` text or null, with `content-type: application/json` and `x-request-id`. A stream that fails before its
first byte gets the same, with the status, and no event stream. Operations below `/v1/messages` fail in the shape of
Anthropic's SDK instead. Words in braces are filled in; messages that are one word in braces repeat what the engine
said, without its internals. Where the engine names a field, `param` names it too.

SDKs wait as many seconds as `retry-after` says before they try again, and obey `x-should-retry`.
"""

_STRATEGIES_HEAD: Final = f"""
A strategy orders the endpoints that can take a request. Envoy tries the first, and on failure before the first byte
of an answer the next ones. `routing.strategy` chooses it for all requests (default {code(DEFAULT_STRATEGY)}), the
request header {code(ROUTING_STRATEGY)} for one; an unknown name there is a 400. All of them pick among the endpoints
that serve the model, can do the task and are ready.

A strategy is one file in `core/routing/strategies` and one line in `core/routing/registry.py`.
"""

_LABELS_HEAD: Final = f"""
What `serve --kubernetes` reads on pods, AIBrix's names; on EndpointSlices (`--slice-selector`) the same, and their only
TCP port where no label names one. A pod is picked when it has an address, is Ready and is not being deleted, and its
engine is not asleep; until then its models are known, and asking for them is a 503. What cannot be understood is left
out, and `/readyz` and the log say why.

With `--inference-pool` the pool's selector and target ports count in place of the port label, each port an endpoint;
the annotation {code(ACTIVE_PORTS[0])} (its old name: {code(ACTIVE_PORTS[1])}) restricts a pod to some of them.
"""

_METRICS_HEAD: Final = """
The admin listener serves them at `/metrics`, as Prometheus text. Values of labels are bounded: operations come from
the table of operations, models and endpoints from the fleet; what a client invents never becomes one.
"""


def errors_page() -> str:
    """The page of errors, by status."""
    head = ("key", "status", "type", "code", "param", "message", "when", "retry")
    ordered = sorted(ERRORS.items(), key=lambda item: (item[1].status, item[0]))
    return page("Errors", _ERRORS_HEAD, table(head, (error_row(key, row) for key, row in ordered)))


def error_row(key: str, row: ErrorRow) -> tuple[str, ...]:
    """A row of the table of errors."""
    return (
        code(key),
        str(row.status),
        code(row.type),
        code(row.code) if row.code else "null",
        code(row.param) if row.param else "null",
        code(row.message),
        row.when,
        _retry(row),
    )


def _retry(row: ErrorRow) -> str:
    said = []
    if row.retry_after_seconds is not None:
        said.append(f"`retry-after: {row.retry_after_seconds}`")
    if row.should_retry is not None:
        said.append(f"`x-should-retry: {str(row.should_retry).lower()}`")
    return ", ".join(said) or NOTHING


def strategies_page() -> str:
    """The page of strategies."""
    strategies = [STRATEGIES[name] for name in sorted(STRATEGIES)]
    overview = table(("name", "what it does"), ((code(one.spec.name), one.spec.intent) for one in strategies))
    return page("Routing strategies", _STRATEGIES_HEAD, overview, *(_strategy(one) for one in strategies))


def _strategy(strategy: Strategy) -> str:
    spec = strategy.spec
    parts = [
        f"## {spec.name}",
        strategy.reference,
        _inputs("input", spec.inputs),
        _inputs("parameter", spec.parameters),
    ]
    return "\n\n".join(part for part in parts if part)


def _inputs(title: str, inputs: tuple[Input, ...]) -> str:
    return table((title, "meaning"), ((one.name, one.meaning) for one in inputs)) if inputs else ""


def metrics_page() -> str:
    """The page of metrics."""
    rows = (
        (code(name), kind, ", ".join(map(code, labels)), meaning) for name, (kind, labels, meaning) in METRICS.items()
    )
    return page("Metrics", _METRICS_HEAD, table(("metric", "kind", "labels", "meaning"), rows))


def labels_page() -> str:
    """The page of labels and annotations."""
    rows = ((code(key), where, meaning, default) for key, (where, meaning, default) in LABELS.items())
    return page("Labels of pods", _LABELS_HEAD, table(("key", "where", "meaning", "default"), rows))
