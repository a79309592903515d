"""What a placed request looks like to the engine: headers changed, body spliced, notes left for Envoy."""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from aibrix_extproc.core.exchange.outputs import Headers
from aibrix_extproc.core.openai import headers, request
from aibrix_extproc.core.openai.caller import Caller
from aibrix_extproc.core.openai.operations import Operation, Stream

# The destination is not removed but written over.
_STOPPED: Final = frozenset({*headers.NOT_FORWARDED, *headers.RESERVED_REQUEST_HEADERS} - {headers.DESTINATION})
_ALL_STOPPED: Final = _STOPPED | set(headers.ENGINE_CONTROLS)


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body that replaces the client's (None: the client's goes on untouched) and what was done to it."""

    data: bytes | None
    hide_usage: bool = False
    response_id: str | None = None


UNCHANGED: Final = Body(None)


def changed_body(
    operation: Operation, facts: request.RequestFacts, data: bytes, request_id: str, *, metering: bool
) -> Body:
    """The body for the engine: usage asked for when it is metered, the response's id fixed so that we know it."""
    if operation.id == "response":
        # vLLM takes the id of a response from the request. Known beforehand, its owner can be found later without
        # reading a single answer.
        response_id = f"resp_{request_id.replace('-', '')}"
        return Body(request.with_response_id(data, facts, response_id), response_id=response_id)
    if metering and facts.stream and not facts.includes_usage and operation.stream is Stream.DATA_DONE:
        return Body(request.with_usage(data, facts), hide_usage=True)
    return UNCHANGED


def set_headers(
    given: Mapping[str, str], path: str, request_id: str, api_key: str | None, body: bytes | None
) -> Headers:
    """Headers that change on the way to the engine; none that already has its value."""
    changed: list[tuple[str, str]] = []
    if given.get(headers.REQUEST_ID) != request_id:
        changed.append((headers.REQUEST_ID, request_id))
    raw_path = given.get(":path", "")
    _, mark, query = raw_path.partition("?")
    if raw_path != path + mark + query:
        changed.append((":path", path + mark + query))
    if api_key is not None:
        changed.append(("authorization", f"Bearer {api_key}"))
    if given.get("accept-encoding", "identity") != "identity":
        changed.append(("accept-encoding", "identity"))  # what comes back may have to be read
    if body is not None and "content-length" in given:
        changed.append(("content-length", str(len(body))))
    return tuple(changed)


def removed_headers(given: Mapping[str, str], caller: Caller, changed: Headers) -> tuple[str, ...]:
    """Headers that stop here: the client's credentials, and what steers engines unless the caller may."""
    kept = {name for name, _ in changed}
    stopped = _STOPPED if caller.engine_controls else _ALL_STOPPED
    return tuple(name for name in given if name in stopped and name not in kept)


def notes(
    operation: Operation,
    facts: request.RequestFacts | None,
    request_id: str,
    model: str,
    caller: Caller,
    body: Body,
) -> tuple[tuple[str, str | bool], ...]:
    """What Envoy's stream filter must know, and what makes its access log entry tell the whole story."""
    stream = operation.stream.name.lower() if facts is None or facts.stream else ""
    return (
        ("request_id", request_id),
        ("operation", operation.id),
        ("model", model),
        ("caller", caller.name),
        ("stream", stream),
        ("hide_usage", body.hide_usage),
    )


def wait_seconds(asked: str | None, longest: float) -> float:
    """How long to wait for the response's head: as long as the SDK would, within the gateway's bound."""
    try:
        seconds = float(asked) if asked else longest
    except ValueError:
        return longest
    return min(seconds, longest) if math.isfinite(seconds) and seconds > 0 else longest
