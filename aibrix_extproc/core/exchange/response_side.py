"""The response's half of an exchange: a success passes, every failure becomes OpenAI's error."""

import dataclasses
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.direction import Direction
from aibrix_extproc.core.exchange.outputs import (
    Continue,
    Headers,
    Immediate,
    Moved,
    Outcome,
    Output,
    OwnerChanged,
    Phase,
)
from aibrix_extproc.core.exchange.policy import MIB, ExchangePolicy
from aibrix_extproc.core.exchange.request_side import RequestSide
from aibrix_extproc.core.exchange.states import RESPONSE_TABLE, ResponsePhase
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.upstream.local_replies import problem_from_local_reply
from aibrix_extproc.core.openai.upstream.normalize import problem_from_upstream
from aibrix_extproc.core.openai.upstream.packing import retry_after, unpacked
from aibrix_extproc.core.openai.upstream.rules import Request as RefusedRequest
from aibrix_extproc.core.openai.upstream.shapes import is_error
from aibrix_extproc.core.openai.wire.transcripts import transcript_text

VIA_UPSTREAM = "via_upstream"  # response.code_details of an answer that an engine gave
MAX_ERROR_BODY_BYTES = 4 * MIB  # a larger error body is not read; its status is enough
READ_ERROR_BYTES = 65_536  # of the body; an engine may repeat a long prompt in it
RETRY_ELSEWHERE_MS: Final = 50
# No completion is so short, an error is. A success this short is read and checked; others cost nothing.
MAX_SHORT_BYTES = 384

_AFTER_TRAILERS: Final = {
    ResponsePhase.AWAITING_ERROR: ResponsePhase.ANSWERED,
    ResponsePhase.AWAITING_TEXT: ResponsePhase.PASSED,
    ResponsePhase.AWAITING_SHORT: ResponsePhase.PASSED,
}


class ResponseSide(Direction[ResponsePhase]):
    """Steps through the phases of the response. Reads attributes of the request side, never changes them."""

    def __init__(self, request: RequestSide, policy: ExchangePolicy) -> None:
        super().__init__("response", ResponsePhase.IDLE, RESPONSE_TABLE)
        self._request = request
        self._policy = policy
        self._head: events.ResponseHead | None = None
        self.status = 0
        self.problem: str | None = None
        self.outcome: Outcome | None = None
        self.upstream_address = ""
        self.began_at: float | None = None

    def _step(self, event: events.Event) -> tuple[ResponsePhase, tuple[Output, ...]]:
        match event:
            case events.ResponseHead():
                return self._on_head(event)
            case events.ResponseBody() if self._phase is ResponsePhase.AWAITING_ERROR:
                return ResponsePhase.ANSWERED, (self._rewritten(event.data),)
            case events.ResponseBody() if self._phase is ResponsePhase.AWAITING_TEXT:
                return ResponsePhase.PASSED, (self._as_text(event.data),)
            case events.ResponseBody() if self._phase is ResponsePhase.AWAITING_SHORT:
                return self._on_short(event.data)
            case events.ResponseBody():
                return self._phase, (Continue(Phase.RESPONSE_BODY),)
            case events.DeadlineReached():
                self.began_at = event.at
                return ResponsePhase.ANSWERED, (self._replaced(Problem("timeout"), Outcome.ENVOY_ERROR),)
            case events.EngineAsleep():
                self.began_at = event.at
                return ResponsePhase.ANSWERED, (self._replaced(self._asleep(event), Outcome.ENVOY_ERROR),)
            case _:
                return _AFTER_TRAILERS.get(self._phase, self._phase), (Continue(Phase.RESPONSE_TRAILERS),)

    def _on_head(self, event: events.ResponseHead) -> tuple[ResponsePhase, tuple[Output, ...]]:
        self._head = event
        self.began_at = event.at
        self.status = event.status
        self.upstream_address = event.upstream_address
        if event.code_details not in ("", VIA_UPSTREAM):
            problem = problem_from_local_reply(
                event.status, event.code_details, event.flags, max_body_bytes=self._policy.max_body_bytes
            )
            if self._request.is_for_metadata_service and problem.http_status == 503:
                problem = Problem("storage_unavailable")  # the other rows are about engines
            return ResponsePhase.ANSWERED, (self._replaced(problem, Outcome.ENVOY_ERROR),)
        if self._request.is_for_metadata_service:
            self.outcome = Outcome.SERVED if event.status < 400 else Outcome.REFUSED
            return ResponsePhase.PASSED, (self._passed(event),)
        moved = self._moved(event.upstream_address)
        if event.status < 300:
            return self._on_success(event, moved)
        self.outcome = Outcome.ENGINE_ERROR
        if event.end_of_stream or headers.content_length(event.headers) > MAX_ERROR_BODY_BYTES:
            return ResponsePhase.ANSWERED, (*moved, self._replaced(self._problem(b""), Outcome.ENGINE_ERROR))
        return ResponsePhase.AWAITING_ERROR, (*moved, Continue(Phase.RESPONSE_HEAD, buffer_response=True))

    def _asleep(self, event: events.EngineAsleep) -> Problem:
        """The engine lets the request hang; a client that asks again at once reaches another one, if there is any."""
        placement = self._request.placement
        soon = (("retry-after", "1"), ("retry-after-ms", str(RETRY_ELSEWHERE_MS))) if event.elsewhere else ()
        return Problem("model_not_ready", {"model": shown(placement.model if placement else "")}, headers=soon)

    def _on_success(
        self, event: events.ResponseHead, moved: tuple[Moved, ...]
    ) -> tuple[ResponsePhase, tuple[Output, ...]]:
        if self._is_empty_success(event):
            return ResponsePhase.ANSWERED, (*moved, self._replaced(Problem("bad_gateway"), Outcome.ENGINE_ERROR))
        if event.protocol == "HTTP/1.0" and _is_stream(event):
            return ResponsePhase.ANSWERED, (*moved, self._replaced(Problem("stream_over_http_1_0"), Outcome.REFUSED))
        self.outcome = Outcome.SERVED
        facts = (*moved, *self._owner_changes(event, moved))
        if self._wants_text(event) and not event.end_of_stream:
            return ResponsePhase.AWAITING_TEXT, (*facts, Continue(Phase.RESPONSE_HEAD, buffer_response=True))
        if self._is_too_short(event):
            return ResponsePhase.AWAITING_SHORT, (*facts, Continue(Phase.RESPONSE_HEAD, buffer_response=True))
        return ResponsePhase.PASSED, (*facts, self._passed(event))

    def _is_empty_success(self, event: events.ResponseHead) -> bool:
        """A success that an SDK takes for an empty stream or a string: without a body, or a page of HTML.

        Nobody has asked the engine for another protocol, so a 101 is none either: the client would wait for more.
        """
        if event.status == 101:
            return True
        operation = self._request.operation
        if operation is None or operation.method != "POST" or event.status == 204:
            return False
        empty = event.end_of_stream or event.headers.get("content-length") == "0"
        return empty or event.headers.get("content-type", "").lower().startswith("text/html")

    def _is_too_short(self, event: events.ResponseHead) -> bool:
        operation = self._request.operation
        return (
            operation is not None
            and operation.never_short
            and 0 < headers.content_length(event.headers) <= MAX_SHORT_BYTES
            and event.headers.get("content-type", "").startswith("application/json")
        )

    def _on_short(self, body: bytes) -> tuple[ResponsePhase, tuple[Output, ...]]:
        assert self._head is not None
        if not is_error(self._decompressed(body)):
            return ResponsePhase.PASSED, (replace(self._passed(self._head), phase=Phase.RESPONSE_BODY),)
        self.outcome = Outcome.ENGINE_ERROR
        return ResponsePhase.ANSWERED, (self._rewritten(body),)

    def _owner_changes(self, event: events.ResponseHead, moved: tuple[Moved, ...]) -> tuple[Output, ...]:
        """The response owner differs from the one in the id if a retry has moved the request."""
        response_id = self._request.response_id
        return tuple(OwnerChanged(event.at, response_id, one.to_identity) for one in moved) if response_id else ()

    def _wants_text(self, event: events.ResponseHead) -> bool:
        facts = self._request.facts
        if facts is None or facts.response_format != "text":
            return False
        return event.headers.get("content-type", "").lower().startswith("application/json")

    def _as_text(self, body: bytes) -> Continue:
        """A transcript as OpenAI's response_format=text gives it; an answer that is no transcript passes as it is."""
        assert self._head is not None
        passed = replace(self._passed(self._head), phase=Phase.RESPONSE_BODY)
        text = transcript_text(body)
        if text is None:
            return passed
        return replace(
            passed,
            set_headers=(
                *passed.set_headers,
                ("content-type", "text/plain; charset=utf-8"),
                ("content-length", str(len(text))),
            ),
            body=text,
        )

    def _moved(self, address: str) -> tuple[Moved, ...]:
        placement = self._request.placement
        if placement is None or not address or address == placement.first.address:
            return ()
        served = next((one for one in placement.candidates if one.address == address), None)
        if served is None:
            return ()
        request = self._request
        return (Moved(placement.first.identity, served.identity, bool(request.batch_id), request.request_id),)

    def _passed(self, event: events.ResponseHead) -> Continue:
        started = self._request.started_at
        spent = [] if started is None else [("openai-processing-ms", str(int((event.at - started) * 1000)))]
        if _is_stream(event):
            spent += [("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        return Continue(
            Phase.RESPONSE_HEAD,
            set_headers=(*self._own_headers(), *spent),
            remove_headers=tuple([name for name in headers.NOT_RETURNED if name in event.headers]),
        )

    def _own_headers(self) -> Headers:
        if not self._request.request_id and self._head is not None:
            return ((headers.REQUEST_ID, self._head.request_id),)  # another filter answered before we saw a request
        return self._request.own_headers()

    def _problem(self, body: bytes) -> Problem:
        assert self._head is not None
        operation, facts = self._request.operation, self._request.facts
        problem = problem_from_upstream(
            self._head.status,
            self._head.headers.get("content-type", ""),
            self._decompressed(body),
            RefusedRequest(
                self._request.method,
                self._request.path,
                operation,
                model=facts.model if facts else None,
                constrained_by=facts.constrained_by if facts else None,
                response_format=facts.response_format if facts else None,
                names_language=facts.names_language if facts else False,
            ),
        )
        after = retry_after(self._head.headers)  # the engine's own value is better than that of a row of ERRORS
        if after is None:
            return problem
        return dataclasses.replace(problem, headers=(*problem.headers, ("retry-after", after)))

    def _decompressed(self, body: bytes) -> bytes:
        """The beginning of a body that engines, or proxies before them, may have packed although nobody asked."""
        assert self._head is not None
        return unpacked(self._head.headers.get("content-encoding", ""), body, READ_ERROR_BYTES)

    def _replaced(self, problem: Problem, outcome: Outcome) -> Immediate:
        shaped = self._request.shaped(problem)
        self.problem, self.outcome, self.status = problem.key, outcome, shaped.status
        return Immediate(shaped.status, (*shaped.headers, *self._own_headers()), shaped.body, f"ext_proc_{problem.key}")

    def _rewritten(self, body: bytes) -> Continue:
        """An engine's error body in OpenAI's shape; Envoy takes a changed status here and wants the exact length."""
        assert self._head is not None
        problem = self._problem(body)
        shaped = self._request.shaped(problem)
        self.problem, self.status = problem.key, shaped.status
        changed = (
            (":status", str(shaped.status)),
            ("content-length", str(len(shaped.body))),
            *shaped.headers,
            *self._own_headers(),
        )
        ours = {name for name, _ in changed}
        theirs = (name for name in headers.NOT_RETURNED_WITH_ERRORS if name in self._head.headers)
        return Continue(
            Phase.RESPONSE_BODY,
            set_headers=changed,
            remove_headers=tuple(name for name in theirs if name not in ours),
            body=shaped.body,
        )


def _is_stream(event: events.ResponseHead) -> bool:
    return event.headers.get("content-type", "").lower().startswith("text/event-stream")
