"""Which event may come in which phase: two tables, one per direction, as in Envoy's own filter.

An event that its direction's table does not list for the present phase is a `ProtocolViolation` and changes nothing.
Beside the tables there is a mode: after a final answer of ours, messages that were on their way are ignored
(ABSORBING); after `StreamClosed` everything is (CLOSED).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.exchange import asks, events


class ProtocolViolation(Exception):
    """An event came in a phase that does not allow it."""


class RequestPhase(StrEnum):
    """How far the request has come."""

    __hash__ = str.__hash__  # Enum's own is a function in Python; these are looked up several times a message

    IDLE = "idle"
    ADMITTING = "admitting"
    AWAITING_BODY = "awaiting body"
    READING = "reading"
    RESERVING = "reserving"
    PLACING = "placing"
    PREFILLING = "prefilling"
    DESCRIBING = "describing"
    PLACED = "placed"
    ANSWERED = "answered"


class ResponsePhase(StrEnum):
    """How far the response has come."""

    __hash__ = str.__hash__

    IDLE = "idle"
    AWAITING_ERROR = "awaiting error body"
    AWAITING_TEXT = "awaiting transcript"
    AWAITING_SHORT = "awaiting short answer"
    PASSED = "passed"
    ANSWERED = "answered"


class Mode(StrEnum):
    """Whether events still have an effect."""

    SERVING = "serving"
    ABSORBING = "absorbing"
    CLOSED = "closed"


_Q, _P = RequestPhase, ResponsePhase

# (phase, event) -> the phases it may lead to
REQUEST_TABLE: Final[Mapping[tuple[RequestPhase, type], frozenset[RequestPhase]]] = MappingProxyType({
    (_Q.IDLE, events.RequestHead): frozenset({_Q.ADMITTING, _Q.DESCRIBING, _Q.ANSWERED}),
    (_Q.ADMITTING, asks.Admitted): frozenset(
        {_Q.AWAITING_BODY, _Q.RESERVING, _Q.PLACING, _Q.PLACED, _Q.DESCRIBING, _Q.ANSWERED}
    ),
    (_Q.ADMITTING, asks.Refused): frozenset({_Q.ANSWERED}),
    (_Q.AWAITING_BODY, events.RequestBody): frozenset({_Q.READING, _Q.RESERVING, _Q.PLACING, _Q.ANSWERED}),
    (_Q.AWAITING_BODY, events.LargeRequestBody): frozenset({_Q.READING, _Q.RESERVING, _Q.PLACING, _Q.ANSWERED}),
    (_Q.READING, asks.BodyRead): frozenset({_Q.RESERVING, _Q.PLACING, _Q.ANSWERED}),
    (_Q.READING, asks.Refused): frozenset({_Q.ANSWERED}),
    (_Q.READING, events.RequestTrailers): frozenset({_Q.READING}),
    (_Q.AWAITING_BODY, events.RequestTrailers): frozenset({_Q.AWAITING_BODY}),
    (_Q.RESERVING, asks.Reserved): frozenset({_Q.PLACING, _Q.PLACED}),
    (_Q.RESERVING, asks.Refused): frozenset({_Q.ANSWERED}),
    (_Q.RESERVING, events.RequestTrailers): frozenset({_Q.RESERVING}),
    (_Q.PLACING, asks.Placed): frozenset({_Q.PREFILLING, _Q.PLACED}),
    (_Q.PLACING, asks.Refused): frozenset({_Q.ANSWERED}),
    (_Q.PLACING, events.RequestTrailers): frozenset({_Q.PLACING}),
    (_Q.PREFILLING, asks.PrefillDone): frozenset({_Q.PLACED}),
    (_Q.PREFILLING, asks.Refused): frozenset({_Q.ANSWERED}),
    (_Q.PREFILLING, events.RequestTrailers): frozenset({_Q.PREFILLING}),
    (_Q.PLACED, events.RequestBody): frozenset({_Q.PLACED}),  # of a request that was placed by its path
    (_Q.PLACED, events.LargeRequestBody): frozenset({_Q.PLACED}),
    (_Q.PLACED, events.RequestTrailers): frozenset({_Q.PLACED}),
    (_Q.DESCRIBING, asks.Described): frozenset({_Q.ANSWERED}),
    (_Q.DESCRIBING, asks.Refused): frozenset({_Q.ANSWERED}),
})  # fmt: skip

RESPONSE_TABLE: Final[Mapping[tuple[ResponsePhase, type], frozenset[ResponsePhase]]] = MappingProxyType({
    (_P.IDLE, events.ResponseHead): frozenset(
        {_P.PASSED, _P.AWAITING_ERROR, _P.AWAITING_TEXT, _P.AWAITING_SHORT, _P.ANSWERED}
    ),
    (_P.IDLE, events.DeadlineReached): frozenset({_P.ANSWERED}),
    (_P.IDLE, events.EngineAsleep): frozenset({_P.ANSWERED}),
    (_P.AWAITING_ERROR, events.ResponseBody): frozenset({_P.ANSWERED}),
    (_P.AWAITING_ERROR, events.ResponseTrailers): frozenset({_P.ANSWERED}),
    (_P.AWAITING_TEXT, events.ResponseBody): frozenset({_P.PASSED}),
    (_P.AWAITING_TEXT, events.ResponseTrailers): frozenset({_P.PASSED}),
    (_P.AWAITING_SHORT, events.ResponseBody): frozenset({_P.PASSED, _P.ANSWERED}),
    (_P.AWAITING_SHORT, events.ResponseTrailers): frozenset({_P.PASSED}),
    (_P.PASSED, events.ResponseBody): frozenset({_P.PASSED}),
    (_P.PASSED, events.ResponseTrailers): frozenset({_P.PASSED}),
    (_P.ANSWERED, events.ResponseTrailers): frozenset({_P.ANSWERED}),
})  # fmt: skip

RESPONSE_EVENTS: Final = frozenset(
    {events.ResponseHead, events.ResponseBody, events.ResponseTrailers, events.DeadlineReached, events.EngineAsleep}
)
