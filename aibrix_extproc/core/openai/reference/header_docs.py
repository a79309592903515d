"""What the reference says of headers: every one that is read, changed, stopped or set on the way."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.controls import CONTROLS, HEADER_CONTROLS, Place
from aibrix_extproc.core.openai.contract.credentials import CREDENTIAL_HEADERS
from aibrix_extproc.core.openai.wire.cors import preflight_headers, response_headers

# name -> meaning, in the order of the page
REQUEST_HEADERS: Final[Mapping[str, str]] = MappingProxyType({
    **CREDENTIAL_HEADERS,
    "content-type": "`application/json`, or `multipart/form-data` with a boundary for audio",
    "content-length": "size of the body, if it is not sent in chunks; too large a body is refused before it is read",
    "content-encoding": "only `identity`; a compressed body is a 415",
    "accept-encoding": "`identity` for engines, whose answers may have to be read; answers are never compressed",
    headers.ROUTING_STRATEGY: "how an engine is picked; an unknown name is a 400; without effect where the model's "
    "configuration locks a strategy",
    headers.EXTERNAL_FILTER: "a Kubernetes label selector, such as `tier=fast,zone in (a,b)`: only engines whose "
    "labels match are picked; one that cannot be read is a 400, one that matches none a 503",
    headers.CONFIG_PROFILE: "the profile of the model's configuration that counts, or `auto` for the one that is meant "
    "for requests of this size; the default one for a name that there is not",
    headers.SESSION_ID: "for the strategy `session-affinity`: the session, as an answer told it; up to 256 characters, "
    "a longer one counts as none",
    headers.SESSION_KEY: "the same, for a name of the client's own; looked at if there is no `x-session-id`",
    "user": "AIBrix's name of the user; taken, without effect: who calls is told by the key",
    headers.READ_TIMEOUT: "seconds that the SDK waits for bytes, sent by itself: if the head of the answer does not "
    "come in this time and one second, it is a 504; never later than by the gateway's own limit if that is less",
    headers.HEAD_TIMEOUT: "the same of SDKs in JavaScript; looked at if there is no `x-stainless-read-timeout`",
    headers.RETRY_COUNT: "of SDKs: in the queue a request that was sent before goes before the others of its caller",
    headers.REQUEST_ID: "a value of the client's is replaced: Envoy makes one UUID for each request at the edge, and "
    "client and logs see the same; to the engine it adds the number of the attempt (`-1`)",
    "upgrade": "refused with a 426 if `connection` names it: there is plain HTTP only",
    "connection": "looked at for `upgrade`",
    "origin": "of a web page: the answer allows it to be read, see CORS",
    headers.IF_NONE_MATCH: "of `/v1/interfaces` and `/v1/openapi.json`: the `etag` of an answer that the client has; a "
    "304 without a body says that it still holds",
    "access-control-request-headers": "of a browser's preflight: these headers are allowed, see CORS",
    "openai-organization": "taken, without effect",
    "openai-project": "taken, without effect",
    **{
        row.name: f"{row.reason}; for callers with `engine_controls`"
        for row in CONTROLS if row.place is Place.HEADER
    },
    **dict.fromkeys(headers.RATE_LIMIT_HEADERS, "of answers; a client's own has no effect"),
    headers.DESTINATION: "the engine's address; set by the gateway alone, or a client could choose its engine",
    headers.DESTINATION_SERVED: "set by Envoy alone",
    **dict.fromkeys(headers.SIDECAR_HEADERS, "of llm-d's routing sidecar; not a client's to set"),
    "x-gateway-destination-endpoint-subset": "of the endpoint picker protocol; not a client's to set",
    "target-pod": "of AIBrix; not a client's to set",
    "target-pod-ip": "of AIBrix; not a client's to set",
    "x-gateway-model-name": "of AIBrix; not a client's to set",
    headers.SIGNED_CALLER: "for the metadata service alone: who calls, signed; set by the gateway",
    headers.ON_BEHALF: "from a worker of batches: who it speaks for, signed; another one's is a 401",
    headers.DECISION: "of answers; a client's own has no effect",
})  # fmt: skip

# name -> (on which answers, meaning)
RESPONSE_HEADERS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType({
    headers.REQUEST_ID: ("all", "id of the request, a UUID, once; SDKs show it as `_request_id` and `request_id`"),
    "openai-version": ("all but Envoy's own", f"`{headers.OPENAI_VERSION}`"),
    "openai-processing-ms": ("engines' successes", "milliseconds from the request's head to the answer's"),
    "etag": ("interfaces and the OpenAPI document", "changes when the answer does; for `if-none-match`"),
    headers.SESSION_ID: (
        "placements by `session-affinity`",
        "the session, to be sent with its next requests: what the client called it, or a new name",
    ),
    headers.ENGINE_LOAD: (
        "lines of batches",
        "for the worker that runs them: a name of the gateway's process, the number of its requests with the model's "
        "ready engines that are no lines of batches, and the number of these engines",
    ),
    headers.DECISION: (
        "placed requests of administrators",
        "why the request went where it went, as JSON: the strategy, who named it, how many engines could take it, and"
        " the scores of the first candidates; see `aibrix-extproc explain`",
    ),
    headers.CHOSEN_PROFILE: ("requests with `config-profile: auto`", "the profile that was chosen"),
    "content-type": (
        "all with a body",
        "`application/json` for errors; `text/event-stream` for streams; the engine's for the rest",
    ),
    "content-length": ("errors and whole answers", "exact, also where the body was rewritten"),
    "retry-after": (
        "some errors",
        "seconds to wait before the next try, 1 to 60; SDKs obey it. What an engine says is kept within these bounds; "
        "a date is left out",
    ),
    "retry-after-ms": ("429 of limits, some 503", "the same in milliseconds; SDKs prefer it"),
    **{
        name: ("limited callers", f"{'requests' if 'requests' in name else 'tokens'} of the tightest limit: {meaning}")
        for name in headers.RATE_LIMIT_HEADERS
        for part, meaning in (
            ("-limit-", "how many there are"),
            ("-remaining-", "how many are left"),
            ("-reset-", "time until all are there again, as Go writes durations: `12ms`, `1m26.4s`"),
        )
        if part in name
    },
    **{
        f"anthropic-ratelimit-{what}-{part}": ("limited callers, Anthropic's operations", meaning)
        for what in ("requests", "tokens", "input-tokens", "output-tokens")
        for part, meaning in (
            ("limit", "how many there are"),
            ("remaining", "how many are left"),
            ("reset", "when all are there again, a time of RFC 3339"),
        )
    },
    "x-aibrix-limit-warning": ("limited callers", "names of soft limits that are exceeded"),
    "x-aibrix-degraded": ("administrators with limits", "`limits` while Redis cannot be asked"),
    "x-should-retry": ("some errors", "`true` or `false`; SDKs obey it before they look at the status"),
    "allow": ("405", "the methods that the path has"),
    "cache-control": (
        "streams, interfaces and the OpenAPI document",
        "`no-cache`, and where there is an `etag` `private`: keep it, and ask whether it holds",
    ),
    "x-accel-buffering": ("streams", "`no`: proxies in front must not hold events back"),
    "access-control-allow-origin": ("requests with `origin`", "the origin that asked"),
    "access-control-expose-headers": ("requests with `origin`", "what a page may read besides the body"),
    "access-control-allow-methods": ("preflights", "the methods that there are"),
    "access-control-allow-headers": ("preflights", "what a page may send: what the preflight asks for"),
    "access-control-max-age": ("preflights", "seconds that the browser may remember this"),
    "vary": (
        "requests with `origin`, preflights",
        "`Origin`; for preflights `Access-Control-Request-Headers` too",
    ),
})  # fmt: skip

# name -> why it never reaches a client
STOPPED_RESPONSE_HEADERS: Final[Mapping[str, str]] = MappingProxyType({
    "server": "tells the engine's software",
    "endpoint-load-metrics": "tells the engine's load",
    headers.DESTINATION: "tells the engine's address",
    "target-pod": "tells the engine's address",
    "x-envoy-upstream-service-time": "Envoy's own; see `openai-processing-ms`",
    headers.DECISION: "the gateway's own is set for administrators",
})  # fmt: skip

ALLOWED_METHODS: Final = dict(preflight_headers({}))["access-control-allow-methods"]
ALLOWED_HEADERS: Final = dict(preflight_headers({}))["access-control-allow-headers"]
EXPOSED_HEADERS: Final = dict(response_headers(""))["access-control-expose-headers"]

_REPLACED: Final = frozenset({headers.REQUEST_ID, "accept-encoding", "content-length"})


def treatment(name: str) -> str:
    """What happens to a request header on its way to an engine."""
    if name in headers.RESERVED_REQUEST_HEADERS:
        return "removed"
    if name in headers.NOT_FORWARDED:
        return "read, not forwarded"
    if name in HEADER_CONTROLS:
        return "removed, unless the caller may"
    return "read, replaced" if name in _REPLACED else "read, forwarded"
