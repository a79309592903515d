"""Builders of values with defaults: a test names only what it is about.

Times count seconds from the request's head at 100.0, so that a test can see which event a figure came from.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from aibrix_extproc.core.exchange import asks, events
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Snapshot, snapshot_of
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Operation
from aibrix_extproc.core.placing import ATTEMPTS, Caller, Placement
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Placer, Ranking
from aibrix_extproc.core.routing.signals import SignalSources

MODEL: Final = "chat-m"
REQUEST_ID: Final = "req_0123456789abcdef0123456789abcdef"
CALLER: Final = Caller("key-1")
MAX_BODY_BYTES: Final = 100_000

HEAD_AT, PLACED_AT, RESPONSE_AT, ENDED_AT = 100.0, 100.25, 101.5, 110.0

JSON_HEADERS: Final = (("content-type", "application/json"),)


def an_endpoint(number: int = 1, *, models: tuple[str, ...] = (MODEL,), **changes: Any) -> Endpoint:
    """A ready engine at 10.0.0.NUMBER:8000."""
    endpoint = Endpoint(
        identity=f"engine-{number}",
        address=f"10.0.0.{number}:8000",
        name=f"engine-{number}",
        models=tuple(ServedModel(model) for model in models),
        health=Health.READY,
    )
    return replace(endpoint, **changes)


def a_snapshot(*endpoints: Endpoint, known: bool = True) -> Snapshot:
    """A fleet; of one ready engine unless told otherwise."""
    return snapshot_of(endpoints or (an_endpoint(),), version=1, known=known)


def changes(before: Snapshot, after: Snapshot) -> tuple[Pair, ...]:
    """The endpoints that differ between two snapshots, as the fleet tells its subscribers."""
    old, new = ({one.identity: one for one in each.endpoints} for each in (before, after))
    pairs = ((old.get(identity), new.get(identity)) for identity in sorted(old.keys() | new.keys()))
    return tuple(pair for pair in pairs if pair[0] != pair[1])


def a_placement(*endpoints: Endpoint, model: str = MODEL) -> Placement:
    """Endpoints in order of preference; two unless told otherwise."""
    return Placement("least-request", model, endpoints or (an_endpoint(1), an_endpoint(2)))


def a_placer(
    strategy: str = "least-request",
    *,
    load: LoadBook | None = None,
    owners: ResponseOwners | None = None,
    candidates: int = ATTEMPTS,
    wall_at: float = 1.0,
    draw: Callable[[], float] = lambda: 0.5,
) -> Placer:
    """What places requests, over idle endpoints and without chance unless told otherwise."""
    return Placer(
        SignalSources(LoadBook() if load is None else load, draw),
        ResponseOwners([b"what the ids of responses are made with"]) if owners is None else owners,
        Ranking(strategy, candidates),
        lambda: wall_at,
    )


def an_operation(identifier: str) -> Operation:
    """The row of the operations table with this id."""
    return next(row for row in OPERATIONS if row.id == identifier)


def an_exchange(*, max_body_bytes: int = MAX_BODY_BYTES) -> Exchange:
    """A fresh machine."""
    return Exchange(ExchangePolicy(max_body_bytes=max_body_bytes))


def a_request_head(
    method: str = "POST",
    path: str = "/v1/chat/completions",
    *,
    end_of_stream: bool = False,
    without: tuple[str, ...] = (),
    headers: Mapping[str, str] | None = None,
    **named: str,
) -> events.RequestHead:
    """What Envoy sends first for an SDK's chat completion. Headers go by name (dashes for underscores) or in a map."""
    sent = {
        ":method": method,
        ":path": path,
        ":authority": "gateway.example",
        "authorization": "Bearer sk-client",
        "content-type": "application/json",
        **{name.replace("_", "-"): value for name, value in named.items()},
        **(headers or {}),
    }
    kept = {name: value for name, value in sent.items() if name not in without}
    return events.RequestHead(HEAD_AT, REQUEST_ID, kept, end_of_stream)


def a_request_body(data: bytes | None = None, **fields: object) -> events.RequestBody:
    """The whole body: the given bytes, or a chat completion's JSON with these fields changed."""
    if data is None:
        data = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], **fields}).encode()
    return events.RequestBody(HEAD_AT, data, end_of_stream=True)


def a_placed(placement: Placement | None = None, response_id: str | None = None) -> asks.Placed:
    """The answer to `Place`."""
    return asks.Placed(PLACED_AT, placement or a_placement(), response_id=response_id)


def a_response_head(
    status: int = 200,
    *,
    upstream_address: str = "10.0.0.1:8000",
    code_details: str = "via_upstream",
    flags: int = 0,
    end_of_stream: bool = False,
    request_id: str = "req_of_the_response",
    headers: Mapping[str, str] | None = None,
    **named: str,
) -> events.ResponseHead:
    """The head of an engine's answer."""
    sent = {":status": str(status), "content-type": "application/json"}
    sent |= {name.replace("_", "-"): value for name, value in named.items()} | dict(headers or {})
    return events.ResponseHead(
        RESPONSE_AT, status, sent, end_of_stream, code_details, flags, upstream_address, request_id
    )


def a_response_body(data: bytes = b"{}") -> events.ResponseBody:
    """The whole body of an engine's error answer."""
    return events.ResponseBody(RESPONSE_AT, data, end_of_stream=True)


def a_closing(cause: events.Cause = events.Cause.HALF_CLOSED) -> events.StreamClosed:
    """The last event."""
    return events.StreamClosed(ENDED_AT, cause)
