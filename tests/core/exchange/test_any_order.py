"""Whatever comes in whatever order: the machine's promises that everything else leans on."""

import re
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.exchange import asks, events
from aibrix_extproc.core.exchange.asks import Authenticate, Describe, Place
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import (
    Assigned,
    Continue,
    Finished,
    Immediate,
    Moved,
    Output,
    OwnerChanged,
    WaitFor,
)
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.states import REQUEST_TABLE, RESPONSE_EVENTS, RESPONSE_TABLE, ProtocolViolation
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem
from tests.build import (
    CALLER,
    JSON_HEADERS,
    a_placed,
    a_placement,
    a_request_body,
    a_request_head,
    a_response_body,
    a_response_head,
    an_endpoint,
    an_exchange,
)

T = TypeVar("T")

TIMES = st.floats(0, 1e6)
ENDPOINTS = tuple(an_endpoint(number) for number in range(1, 5))
ADDRESSES = st.sampled_from(("", "10.9.9.9:1", *(one.address for one in ENDPOINTS)))

# As Envoy hands them over: bytes read as latin-1.
_VALUES = st.text(st.characters(max_codepoint=0xFF), max_size=12)
_NAMES = st.sampled_from(
    (
        "authorization", "content-type", "content-length", "content-encoding", "origin", "routing-strategy",
        "external-filter", "config-profile", "x-session-id", "x-api-key", "server", "location",
        "x-gateway-destination-endpoint",
    )
)  # fmt: skip
_EXTRA = st.dictionaries(_NAMES, _VALUES | st.integers(0, 10**7).map(str), max_size=3)
_PATHS = (
    st.sampled_from(
        (
            "/v1/chat/completions", "/v1/models", "/v1/models/a%2Fb", "/v1/responses/resp_1", "/v1/files", "/nothing",
            "/v1/audio/transcriptions", "//v1//chat/completions/?x=1", "/sleep", "", "/v1/responses", "/v1/messages",
            "/v1/responses/resp_1/cancel",
        )
    )
    | _VALUES
)  # fmt: skip

request_heads = st.builds(
    lambda at, method, path, extra, kind, end: events.RequestHead(
        at,
        "req_1",
        {":method": method, ":path": path, **({"content-type": kind} if kind else {}), **extra},
        end,
    ),
    TIMES,
    st.sampled_from(("GET", "POST", "DELETE", "OPTIONS", "BREW", "")),
    _PATHS,
    _EXTRA,
    st.sampled_from(("application/json", "multipart/form-data; boundary=B", "")),
    st.booleans(),
)
FORM = (
    b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nasr-m\r\n'
    b'--B\r\nContent-Disposition: form-data; name="response_format"\r\n\r\ntext\r\n--B--\r\n'
)
request_bodies = st.builds(
    events.RequestBody,
    TIMES,
    st.sampled_from((a_request_body().data, a_request_body(stream=True, stream_options=None).data, FORM, b"{")),
    st.booleans(),
)
response_heads = st.builds(
    events.ResponseHead,
    TIMES,
    st.sampled_from((0, 200, 204, 301, 400, 404, 418, 422, 429, 500, 503, 599)),
    _EXTRA,
    st.booleans(),
    st.sampled_from(("", "via_upstream", "no_healthy_upstream", "response_timeout", "new")) | _VALUES,
    st.integers(0, 2**40),
    ADDRESSES,
)
response_bodies = st.builds(
    events.ResponseBody,
    TIMES,
    st.sampled_from((b"{}", b'{"object":"error","message":"no","code":400}', b'{"detail":[]}'))
    | st.binary(max_size=40),
    st.booleans(),
)
placements = st.lists(st.integers(0, len(ENDPOINTS) - 1), min_size=1, unique=True).map(
    lambda order: a_placement(*(ENDPOINTS[index] for index in order))
)
placed = st.builds(asks.Placed, TIMES, placements)
WORDS = dict.fromkeys({word for row in ERRORS.values() for word in re.findall(r"\{(\w+)\}", row.message)}, "x")
refused = st.sampled_from(sorted(ERRORS)).map(lambda key: asks.Refused(Problem(key, WORDS)))
answered = st.just(asks.Described(200, JSON_HEADERS, b"{}"))
admitted = st.just(asks.Admitted(CALLER))
deadlines = st.builds(events.DeadlineReached, TIMES)
trailers = st.builds(events.RequestTrailers, TIMES) | st.builds(events.ResponseTrailers, TIMES)
closings = st.builds(events.StreamClosed, TIMES, st.sampled_from(events.Cause))

anything = st.one_of(
    request_heads,
    request_bodies,
    response_heads,
    response_bodies,
    placed,
    refused,
    answered,
    admitted,
    trailers,
    deadlines,
)


class Ledger:
    """Keeps what came out and what the load book makes of it, as the dispatcher does."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.book = LoadBook()
        self.outputs: list[Output] = []
        self.violations = 0

    def feed(self, event: events.Event) -> tuple[Output, ...]:
        try:
            outputs = self.exchange.receive(event)
        except ProtocolViolation:
            self.violations += 1
            return ()
        self.note(outputs)
        return outputs

    def note(self, outputs: tuple[Output, ...]) -> None:
        self.outputs += outputs
        for output in outputs:
            match output:
                case Assigned(identity):
                    self.book.acquire(identity)
                case Moved(origin, target):
                    self.book.release(origin)
                    self.book.acquire(target)
                case Finished(assigned_to=str(identity)):
                    self.book.release(identity)

    def check(self) -> None:
        assert self.book.total() == 0, "what was taken is not what was released"
        assert sum(isinstance(output, Finished) for output in self.outputs) == 1
        assert isinstance(self.outputs[-1], Finished)
        finals = [index for index, output in enumerate(self.outputs) if isinstance(output, Immediate)]
        assert len(finals) <= 1
        if finals:
            later = self.outputs[finals[0] + 1 :]
            assert not [one for one in later if isinstance(one, Continue | Authenticate | Place | Describe | Assigned)]
        if any(isinstance(output, OwnerChanged | Moved) for output in self.outputs):
            assert any(isinstance(output, Assigned) for output in self.outputs)


# A common conversation; the random events begin after some of it, else few would get past the first phases.
COMMON: tuple[events.Event, ...] = (
    a_request_head(), asks.Admitted(CALLER), a_request_body(), a_placed(), a_response_head(500), a_response_body(),
)  # fmt: skip


@given(
    st.integers(0, len(COMMON)),
    st.lists(anything, max_size=8),
    closings,
    st.lists(anything | closings, max_size=3),
)
def test_any_events_in_any_order_end_in_one_finished_fact(
    begun: int, before: list[events.Event], closing: events.StreamClosed, after: list[events.Event]
) -> None:
    ledger = Ledger(an_exchange())
    for event in (*COMMON[:begun], *before, closing, *after):
        ledger.feed(event)
    ledger.check()


good_heads = st.sampled_from(
    (
        a_request_head(),
        a_request_head(path="/v1/responses"),
        a_request_head(path="/v1/audio/transcriptions", content_type="multipart/form-data; boundary=B"),
        a_request_head("GET", "/v1/responses/resp_1", end_of_stream=True),
        a_request_head("GET", "/v1/models", end_of_stream=True),
    )
)


def mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """One in six is odd, so that conversations get far."""
    return st.integers(0, 5).flatmap(lambda number: odd if number == 0 else usual)


@given(st.data())
def test_any_conversation_that_the_tables_allow_never_violates_them(data: st.DataObject) -> None:
    """Every ask is answered and Envoy keeps to the order, with a bug of ours thrown in now and then."""
    ledger = Ledger(Exchange(ExchangePolicy(metering=data.draw(st.booleans()))))
    outputs = ledger.feed(data.draw(mostly(good_heads, request_heads)))
    waited_for = False
    while (event := data.draw(_next_event(outputs))) is not None:
        if data.draw(st.integers(0, 19)) == 0:
            ledger.note(ledger.exchange.internal_error())
        outputs = ledger.feed(event)
        waited_for = waited_for or any(isinstance(output, WaitFor) for output in outputs)
        if waited_for and data.draw(st.integers(0, 6)) == 0:
            ledger.feed(data.draw(deadlines))
    ledger.feed(data.draw(closings))
    ledger.check()
    assert ledger.violations == 0


def _next_event(outputs: tuple[Output, ...]) -> st.SearchStrategy[events.Event | None]:
    """What Envoy or the shell would send next; None to end the stream."""
    match next((one for one in reversed(outputs) if not isinstance(one, WaitFor)), None):
        case Authenticate():
            return mostly(admitted, refused)
        case Describe():
            return mostly(answered, refused)
        case Place():
            return mostly(placed, refused)
        case Continue(phase=phase, destination=destination, buffer_response=buffered):
            return _after("request_body" if destination else phase.value, buffered)
        case _:
            return st.none()


def _after(phase: str, buffered: bool) -> st.SearchStrategy[events.Event | None]:
    match phase:
        case "request_head":
            return mostly(request_bodies, response_heads)
        case "request_body":
            return mostly(response_heads, st.none())
        case "response_head" if buffered:
            return response_bodies
        case "response_head":
            return st.builds(events.ResponseTrailers, TIMES) | st.none()
        case _:
            return st.none()


def test_tables_split_the_events_of_envoy_between_them() -> None:
    request, response = {event for _, event in REQUEST_TABLE}, {event for _, event in RESPONSE_TABLE}
    assert response == RESPONSE_EVENTS
    assert request.isdisjoint(response)
    assert request | response | {events.StreamClosed} == {
        events.RequestHead, events.RequestBody, events.LargeRequestBody, events.RequestTrailers,
        events.ResponseHead, events.ResponseBody,
        events.ResponseTrailers, asks.Admitted, asks.Described, asks.BodyRead, asks.Placed, asks.PrefillDone,
        asks.Reserved, asks.Refused, events.StreamClosed,
        events.DeadlineReached, events.EngineAsleep,
    }  # fmt: skip
