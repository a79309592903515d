"""The exchange: two directions, a mode, and exactly one closing fact."""

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.asks import ANSWERS
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Immediate, Moved, Outcome, Output
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.request_side import RequestSide
from aibrix_extproc.core.exchange.response_side import ResponseSide
from aibrix_extproc.core.exchange.states import RESPONSE_EVENTS, Mode, ProtocolViolation
from aibrix_extproc.core.openai.contract.errors import Problem

# Looking up an enum member by name takes ten times as long as a name of the module.
_SERVING, _CLOSED = Mode.SERVING, Mode.CLOSED
_ENDS_OF_WAIT = frozenset({events.DeadlineReached, events.EngineAsleep})
_TRACKED = frozenset({Immediate, Assigned, Moved})
_LATE = ANSWERS | {events.DeadlineReached, events.EngineAsleep}


class Exchange:
    """One HTTP request and its response. Feed events in order, `StreamClosed` last and always."""

    def __init__(self, policy: ExchangePolicy) -> None:
        self._request = RequestSide(policy)
        self._response = ResponseSide(self._request, policy)
        self._mode = _SERVING
        self._assigned_to: str | None = None
        self._internal_error = False

    @property
    def policy(self) -> ExchangePolicy:
        """Limits and switches of the gateway."""
        return self._request.policy

    @property
    def mode(self) -> Mode:
        """Whether events still have an effect."""
        return self._mode

    @property
    def answerable(self) -> bool:
        """Whether a final answer of ours may still be sent: no response has begun."""
        return self._mode is _SERVING and self._response.began_at is None

    def receive(self, event: events.Event) -> tuple[Output, ...]:
        """What follows from an event. Raises ProtocolViolation, changing nothing, for one that fits nowhere."""
        if self._mode is not _SERVING:
            return self._receive_late(event)
        if type(event) in RESPONSE_EVENTS:
            if type(event) in _ENDS_OF_WAIT and self._response.began_at is not None:
                return ()  # the answer came first
            outputs = self._response.receive(event)
        elif type(event) is events.StreamClosed:
            return self._close(event)
        else:
            outputs = self._request.receive(event)
        for output in outputs:
            if type(output) in _TRACKED:
                self._track(output)
        return outputs

    def internal_error(self) -> tuple[Output, ...]:
        """The final answer after a bug of ours; nothing when the response has already begun."""
        self._internal_error = True
        if not self.answerable:
            return ()
        self._mode = Mode.ABSORBING
        problem = Problem("internal_error", {"request_id": self._request.request_id})
        return (self._request.refuse(problem, Outcome.INTERNAL_ERROR),)

    def _receive_late(self, event: events.Event) -> tuple[Output, ...]:
        if isinstance(event, events.StreamClosed) and self._mode is Mode.ABSORBING:
            return self._close(event)
        if self._mode is _CLOSED and type(event) not in _LATE:
            raise ProtocolViolation(f"{type(event).__name__} after the stream has closed")
        return ()  # was on its way when we gave the final answer

    def _track(self, output: Output) -> None:
        if isinstance(output, Immediate):
            self._mode = Mode.ABSORBING
        elif isinstance(output, Assigned):
            self._assigned_to = output.identity
        elif isinstance(output, Moved):
            self._assigned_to = output.to_identity

    def _close(self, event: events.StreamClosed) -> tuple[Output, ...]:
        self._mode = _CLOSED
        request, response = self._request, self._response
        request.drop_body()
        answered = request.answered
        operation = request.operation
        return (
            Finished(
                request_id=request.request_id,
                operation=operation.id if operation else "unknown",
                model=request.facts.model if request.facts else None,
                caller=request.caller.name,
                stream=request.facts.stream if request.facts else False,
                status=answered.status if answered else response.status,
                outcome=self._outcome(),
                cause=event.cause,
                problem=request.problem or response.problem,
                assigned_to=self._assigned_to,
                placement=request.placement,
                upstream_address=response.upstream_address,
                body_bytes=request.body_bytes,
                started_at=request.started_at,
                placed_at=request.placed_at,
                response_at=response.began_at,
                ended_at=event.at,
                reservation=request.reservation,
                batch=bool(request.batch_id),
            ),
        )

    def _outcome(self) -> Outcome:
        if self._internal_error:
            return Outcome.INTERNAL_ERROR
        return self._response.outcome or self._request.outcome
