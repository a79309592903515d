"""docs/errors.md, strategies.md, labels.md and metrics.md there: the tables that need no more than a head."""

from typing import Final

from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.cli.reference_markdown import NOTHING, code, page, table
from aibrix_extproc.core.fleet.kubernetes.podspec import ACTIVE_PORTS, CONFIG, LABELS, METRIC_PORT, MODEL
from aibrix_extproc.core.fleet.modelconfig import CONFIG_MEMBERS, MAX_CONFIG_BYTES
from aibrix_extproc.core.fleet.served import CHECK_NAMES
from aibrix_extproc.core.openai.contract.error_row import ErrorRow
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.core.openai.contract.headers import (
    CHOSEN_PROFILE,
    CONFIG_PROFILE,
    EXTERNAL_FILTER,
    ROUTING_STRATEGY,
    SESSION_ID,
    SESSION_KEY,
)
from aibrix_extproc.core.openai.wire.sizes import BYTES_PER_TOKEN
from aibrix_extproc.core.routing.mix import MAX_PARTS, MAX_WEIGHT
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY, NOT_HERE, STRATEGIES
from aibrix_extproc.core.routing.scorer import Input, Strategy
from aibrix_extproc.core.routing.signals import MEANINGS, Need

_ERRORS_HEAD: Final = """
Whatever fails, the client gets OpenAI's error: `{"error": {"message", "type", "param", "code"}}`, all four keys always
there, `code` text or null, with `content-type: application/json` and `x-request-id`. A stream that fails before its
first byte gets the same, with the status, and no event stream. Operations below `/v1/messages` fail in the shape of
Anthropic's SDK instead. Words in braces are filled in; messages that are one word in braces repeat what the engine
said, without its internals. Where the engine names a field, `param` names it too.

SDKs wait as many seconds as `retry-after` says before they try again, and obey `x-should-retry`.
An engine's own `retry-after` is kept as whole seconds from 1 to 60: some SDKs sleep any value, others give up above
120. A date, or anything else that is no number of seconds, is left out.
"""

_STRATEGIES_HEAD: Final = f"""
A strategy orders the endpoints that can take a request. Envoy tries the first, and on failure before the first byte
of an answer the next ones. Which strategy orders them, the first of these that says something:

1. `lockedRoutingStrategy` of the model's configuration (annotation {code(CONFIG)}, see [labels.md](labels.md));
2. the request header {code(ROUTING_STRATEGY)}, in any case; one that cannot be followed is a 400;
3. the profile of that configuration, which the request header {code(CONFIG_PROFILE)} may name;
4. the setting `routing.strategy` (default {code(DEFAULT_STRATEGY)}).

All of them pick among the endpoints that serve the model, can do the task and are ready; the request header
{code(EXTERNAL_FILTER)} leaves of these the ones whose labels match. A request that continues or names a stored response
goes to the engine that holds it, and none of this counts.

Each place may name several strategies with weights: {code("least-request:2,random:1")}. Each of them then scores every
endpoint between 0 and 1, the weighted mean counts, and equal endpoints take turns. Weights are whole numbers up to
{MAX_WEIGHT}; one that is missing is 1, and 0 leaves a strategy out. At most {MAX_PARTS} parts, each strategy once. A
combination looks at every endpoint, so it costs about 1 us for each of them and part.

A strategy is one file in `core/routing/scorers` and one line in `core/routing/registry.py`. What it needs is produced
from the first request on that uses it.

Strategies that need gauges read the metrics pages of engines: `/metrics` of vLLM and of SGLang (which wants
`--enable-metrics`), `/prometheus/metrics` of TensorRT-LLM; at the port that the label {code(METRIC_PORT)} names, if
there is one. An engine with requests of this gateway is read every 0.2 s, an idle one every 2 s, all together at most
160 times a second; one that answers slowly less often. For 100 idle engines that took 3.5 % of a core, for 100 busy
ones 8 % (`make bench-gauges`). For strategies that need prefixes only, each engine is read every 30 s, for the size of
its cache. A reading counts in full for 8 s and fades out until it is 30 s old. Where an endpoint
has none, it counts as the mean of the others, times our own requests there beside theirs; where no endpoint has one,
our own counts decide. No endpoint is refused for it. What a strategy lacks is in the decision record, in
`aibrix_extproc_degraded_total`, and once in the log: `no_readings`, `some_readings`, `no_history` (nothing has happened
since the first reading), `no_caller` (`vtc-basic` without keys). `/readyz` names engines that cannot be read.

Strategies that need prefixes believe that an engine keeps what it was sent, as far as its cache goes. With
`routing.kv_events` (`--kv-events`) the gateway follows the events that vLLM publishes with `--kv-events-config` (for
example `{{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558"}}`),
and knows what was evicted, also by the requests of others. It finds the sockets by `GET /kv_event_sources`, needs no
tokenizer, and sends each request's id as `x-session-id`, by which events name the prompt. On a vLLM 0.33 whose cache
others used too, predictions of cached tokens were wrong by 0.7 % of the prompts, and by 6.7 % without events.
"""

_NOT_HERE: Final = f"""
## Names of AIBrix that are not here

Named by the header they are a 400 that says what comes nearest. Named by a model's configuration the gateway's own
strategy takes their place, and `/readyz` and the log say so. The same holds for a combination with such a part.
A model's `lockedRoutingStrategy` lets requests pass whose clients cannot be changed: their header is not looked at.
Sessions: {code(SESSION_ID)} and {code(SESSION_KEY)} count for strategies that keep sessions.
"""

_LABELS_HEAD: Final = f"""
What `serve --kubernetes` reads on pods, AIBrix's names; on EndpointSlices (`--slice-selector`) the same, and their only
TCP port where no label names one. A pod is picked when it has an address, is Ready and is not being deleted, and its
engine is not asleep; until then its models are known, and asking for them is a 503. What cannot be understood is left
out, and `/readyz` and the log say why.

Models are served by the names that the engine lists at `/v1/models`: names, aliases, LoRA adapters. The label
{code(MODEL)} (and a ModelAdapter) is a name until the engine was asked, for an engine without a list, and
beside the list of any engine but {" and ".join(code(one) for one in sorted(CHECK_NAMES))}: those answer 404 to names
that they do not list, others need not. A name that an engine refuses is not served: a warning at `/fleet`
(`remark`), in the log and in `doctor`. Pods with one label are a group: a model whose own pods carry no {code(CONFIG)}
has that of their group. An annotation may hold `Qwen/Qwen3-8B`, a label may not.

With `--inference-pool` the pool's selector and target ports count in place of the port label, each port an endpoint;
the annotation {code(ACTIVE_PORTS[0])} (its old name: {code(ACTIVE_PORTS[1])}) restricts a pod to some of them.

In a fleet file (`--fleet`) an endpoint has `labels` and `annotations` of its own: labels for {code(EXTERNAL_FILTER)},
and the annotation {code(CONFIG)}, whose JSON is written as text. Its model, port and engine are fields there.
"""

_CONFIG: Final = f"""
## The model's configuration

The annotation {code(CONFIG)} says how requests for the models of its pod are routed:

```json
{{
  "lockedRoutingStrategy": "",
  "defaultProfile": "short",
  "profiles": {{
    "short": {{"routingStrategy": "least-request"}},
    "long": {{"routingStrategy": "session-affinity", "routingConfig": {{"promptTokensGte": 4000}}}}
  }}
}}
```

It is read when the pod changes, never for a request. If pods of one model differ, what most of them say counts (those
that are being deleted have no voice), and of equally many what the one with the first name says. Text that is no such
object is a warning on the pod (`/readyz` and the log; a fleet file is refused), and requests are served without it; so
is a member that is not in this table. At most {MAX_CONFIG_BYTES} bytes.
"""

_AUTO: Final = f"""
With {code(f"{CONFIG_PROFILE}: auto")} the profile is chosen whose bounds fit the request: of several the one with most
bounds, then the tightest; without any the default one. {code(CHOSEN_PROFILE)} on the answer names it. Tokens of the
prompt are estimated, one for {BYTES_PER_TOKEN} bytes of prompt or messages as they stand in the body; those of the
answer are `max_tokens`, `max_completion_tokens` or `max_output_tokens`. A request that does not say so fits no bound.
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
    absent = table(("name", "comes nearest"), ((code(name), code(near)) for name, near in NOT_HERE.items()))
    sections = (_strategy(one) for one in strategies)
    return page("Routing strategies", _STRATEGIES_HEAD, overview, *sections, _NOT_HERE.strip(), absent)


def _strategy(strategy: Strategy) -> str:
    spec = strategy.spec
    parts = [
        f"## {spec.name}",
        strategy.reference,
        _inputs("needs", tuple(Input(need.value, MEANINGS[need]) for need in Need if need in spec.needs)),
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
    members = ((code(name), meaning) for name, meaning in CONFIG_MEMBERS.items())
    return page(
        "Labels of pods",
        _LABELS_HEAD,
        table(("key", "where", "meaning", "default"), rows),
        _CONFIG.strip(),
        table(("member", "meaning"), members),
        _AUTO.strip(),
    )
