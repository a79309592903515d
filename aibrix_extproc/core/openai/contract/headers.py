"""The header names that carry meaning between client, Envoy, us and the engines, as data."""

from collections.abc import Mapping
from typing import Final

from aibrix_extproc.core.openai.contract.controls import HEADER_CONTROLS
from aibrix_extproc.core.openai.contract.credentials import CREDENTIAL_HEADERS

DESTINATION: Final = "x-gateway-destination-endpoint"  # ip:port list, read by Envoy's override_host
DESTINATION_SERVED: Final = "x-gateway-destination-endpoint-served"
DESTINATION_SUBSET: Final = "x-gateway-destination-endpoint-subset"  # in metadata only
ROUTING_STRATEGY: Final = "routing-strategy"  # this and the next five are AIBrix's
EXTERNAL_FILTER: Final = "external-filter"
IF_NONE_MATCH: Final = "if-none-match"
CONFIG_PROFILE: Final = "config-profile"
SESSION_ID: Final = "x-session-id"
SESSION_KEY: Final = "x-aibrix-session-key"
CHOSEN_PROFILE: Final = "x-aibrix-config-profile"
REQUEST_ID: Final = "x-request-id"
OPENAI_VERSION: Final = "2020-10-01"
EXTPROC_NAMESPACE: Final = "aibrix.extproc"  # dynamic metadata for the stream filter and the access log
SEALED: Final = "sealed"  # the field that says what is charged
PLACED_REQUEST_ID: Final = "request_id"  # by this one Envoy's access log knows what was placed

SIGNED_CALLER: Final = "x-aibrix-signed-caller"  # from us to the metadata service: who calls
ON_BEHALF: Final = "x-aibrix-on-behalf-of"  # from a worker of batches to us: who it speaks for
ENGINE_LOAD: Final = "x-aibrix-engine-load"  # from us to a worker of batches: how busy the model's engines are

ENGINE_PRIORITY: Final = "x-vllm-priority"  # vLLM: counts before the body's `priority`

DECISION: Final = "x-aibrix-decision"  # for administrators: why the request went where it went

PREFILLER: Final = "x-prefiller-host-port"  # from us to llm-d's routing sidecar: the prefill engine
# By these that sidecar would send requests anywhere.
SIDECAR_HEADERS: Final[tuple[str, ...]] = (
    PREFILLER,
    "x-prefiller-url",
    "x-encoder-hosts-ports",
    "x-data-parallel-host-port",
    "x-kv-cache-source-host-port",
)

# Where gateways that ask an endpoint picker may leave the path that a client asked for.
ORIGINAL_PATHS: Final[tuple[str, ...]] = ("x-original-path", "x-forwarded-path")

# What only we may set: removed from client requests before routing (Envoy's early header mutation) and again by us.
RESERVED_REQUEST_HEADERS: Final[tuple[str, ...]] = (
    DESTINATION,
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    "target-pod",
    "target-pod-ip",
    "x-gateway-model-name",
    SIGNED_CALLER,
    *SIDECAR_HEADERS,
)

# By which a client may say where its request shall go.
ROUTING_HEADERS: Final = frozenset({ROUTING_STRATEGY, EXTERNAL_FILTER, CONFIG_PROFILE, SESSION_ID, SESSION_KEY})

# About limits; an answer has them for a limited caller only.
RATE_LIMIT_HEADERS: Final[tuple[str, ...]] = tuple(
    f"x-ratelimit-{what}-{of}" for of in ("requests", "tokens") for what in ("limit", "remaining", "reset")
)

# What is the client's own business with the gateway.
NOT_FORWARDED: Final[tuple[str, ...]] = (
    *CREDENTIAL_HEADERS,
    "openai-organization",
    "openai-project",
    "user",
    ON_BEHALF,
    DECISION,
    *RATE_LIMIT_HEADERS,
    *sorted(ROUTING_HEADERS),
)
TEST_SELECTION: Final = "test-epp-endpoint-selection"  # read for conformance tests only
READ_TIMEOUT: Final = "x-stainless-read-timeout"  # seconds; how long the SDK waits for bytes
HEAD_TIMEOUT: Final = "x-stainless-timeout"  # the same of SDKs in JavaScript, which wait for the head alone
RETRY_COUNT: Final = "x-stainless-retry-count"  # how often the SDK has sent this request before

# What engines say that is none of the client's business.
NOT_RETURNED: Final[tuple[str, ...]] = (
    "server",
    "endpoint-load-metrics",
    "x-gateway-destination-endpoint",
    "target-pod",
    "x-envoy-upstream-service-time",
    DECISION,
)

# What belongs to an answer that is replaced: how it was packed, and what the client was to do next.
NOT_RETURNED_WITH_ERRORS: Final[tuple[str, ...]] = (
    *NOT_RETURNED,
    "content-encoding",
    "location",
    "www-authenticate",
    "allow",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
)

# Everything that the exchange looks at, in requests and responses.
READ_HEADERS: Final = frozenset(
    {
        ":method",
        ":path",
        ":status",
        "content-type",
        "content-length",
        "accept-encoding",
        "origin",
        IF_NONE_MATCH,
        "access-control-request-headers",
        REQUEST_ID,
        READ_TIMEOUT,
        HEAD_TIMEOUT,
        RETRY_COUNT,
        "connection",
        "upgrade",
        TEST_SELECTION,
        *RESERVED_REQUEST_HEADERS,
        *NOT_FORWARDED,
        *HEADER_CONTROLS,
        *NOT_RETURNED_WITH_ERRORS,
    }
)


def content_length(headers: Mapping[str, str]) -> int:
    """The declared size of a body, 0 if there is none that can be read. Nothing that a peer sends raises."""
    given = headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else 0
