"""One ext_proc stream on any transport: messages in, serialised replies out, closed exactly once.

A transport calls `receive` for each message, sends what it returns, awaits `pending` when an answer is not at hand,
and calls `close` in its `finally`. This is the one place that catches unexpected exceptions.
"""

import inspect
import logging
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import TypeGuard

from msgspec.structs import replace

from aibrix_extproc.adapters.extproc import decoding, encoding
from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest
from aibrix_extproc.adapters.extproc.duplex import RESPONSE_BODY_SECONDS, Duplex
from aibrix_extproc.adapters.extproc.interfaces import Dispatcher, Machine, Traffic
from aibrix_extproc.adapters.extproc.large_message import LargeMessage
from aibrix_extproc.adapters.extproc.outgoing import Outgoing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.asks import Answer, Pending
from aibrix_extproc.core.exchange.outputs import (
    FACTS,
    Assigned,
    Continue,
    DynamicMetadata,
    Forwarded,
    Immediate,
    Phase,
    Reply,
    WaitFor,
)
from aibrix_extproc.core.exchange.policy import WAIT_SHARE
from aibrix_extproc.core.exchange.states import ProtocolViolation
from aibrix_extproc.rope import Rope

logger = logging.getLogger(__name__)

_SERVER_ERROR = int(HTTPStatus.INTERNAL_SERVER_ERROR)


class Session:
    """The exchange of one stream.

    `assume_duplex` is for data planes that stream bodies in both directions and do not say so in their messages.
    `seal` signs the dynamic metadata that goes to Envoy.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        exchange: Machine,
        clock: Callable[[], float],
        make_id: Callable[[], str],
        *,
        assume_duplex: bool = False,
        seal: Callable[[DynamicMetadata], DynamicMetadata] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._seal = seal
        self._traffic = traffic
        self._engine: str | None = None  # the identity that `traffic` got for this exchange
        self._asleep: events.EngineAsleep | None = None
        self._exchange = exchange
        self._keep_id = exchange.policy.is_picker
        self._clock = clock
        self._make_id = make_id
        self._assume_duplex = assume_duplex
        self._begun = False
        self._duplex: Duplex | None = None  # only in the mode FULL_DUPLEX_STREAMED
        self._closed = False
        self._warned = False
        self._phase = Phase.REQUEST_HEAD  # of the message being handled
        self._waiting: Pending | None = None  # what `pending` waits for
        self._extended: Phase | None = None  # of the message for which Envoy was asked to wait longer
        self.pending: Coroutine[None, None, Answer | None] | None = None
        self.wait_seconds: float | None = None  # until the transport calls `expire`; the transport resets it
        self.expire_now: Callable[[], None] | None = None  # set by the transport: calls `expire` and sends the replies

    def receive_large(self, message: LargeMessage) -> list[Outgoing]:
        """The replies to a message whose large body was taken out before it was parsed."""
        return self.receive(message.message, message.body)

    def receive(self, message: ProcessingRequest, body: Rope | None = None) -> list[Outgoing]:
        """The serialised replies to one message of Envoy, in order."""
        started = self._clock()
        phase = decoding.phase_of(message)
        if phase is None:
            self._warn("a message of an unknown kind was ignored")
            return []
        self._phase = phase
        if not self._begun:
            self._begin(message)
        replies = self._guarded(self._take, message, phase, started, body)
        self._dispatcher.timed(phase, self._clock() - started)
        return replies

    def resume(self, answer: Answer | None) -> list[Outgoing]:
        """The replies to the result of `pending`; None stands for a failure."""
        self.pending = None
        return self._after_bug() if answer is None else self._guarded(self._advance, answer)

    def expire(self) -> list[Outgoing]:
        """The replies after the deadline has passed; none if the answer came first."""
        if self._closed:
            return []
        if self._exchange.answerable:
            return self._guarded(self._advance, self._asleep or events.DeadlineReached(self._clock()))
        if self._duplex is not None and self._duplex.buffers_response:
            return self._guarded(self._advance, self._duplex.cut_short(self._clock()))
        return []

    def engine_asleep(self, *, elsewhere: bool) -> None:
        """End the wait for an engine that is asleep or paused, unless its answer has begun."""
        if self._exchange.answerable and self.expire_now is not None and not self._closed:
            self._asleep = events.EngineAsleep(self._clock(), elsewhere)
            self.expire_now()

    def _begin(self, message: ProcessingRequest) -> None:
        self._begun = True
        request, response = decoding.duplex_directions(message, default=self._assume_duplex)
        if request or response:
            policy = self._exchange.policy
            self._duplex = Duplex(request=request, response=response, max_body_bytes=policy.max_body_bytes)
            self.wait_seconds = policy.max_wait_seconds  # Envoy waits for ever in this mode

    def _take(self, message: ProcessingRequest, phase: Phase, at: float, body: Rope | None) -> list[Outgoing]:
        event = decoding.decode(message, phase, at, self._make_id, body, keep_id=self._keep_id)
        if type(event) is events.ResponseHead and self._traffic is not None:
            self._report_answer(event, self._traffic)
        if self._duplex is None:
            return self._advance(event)
        joined, replies = self._duplex.from_envoy(event, phase)
        return replies if joined is None else self._advance(joined)

    def _report_answer(self, head: events.ResponseHead, traffic: Traffic) -> None:
        if self._engine is not None and head.upstream_address and head.status < _SERVER_ERROR:
            traffic.answered(head.upstream_address, head.at)

    def _encode(self, reply: Reply) -> list[Outgoing]:
        if self._duplex is None:
            return [_encoded(reply)]
        replies: list[Outgoing] = self._duplex.to_envoy(reply)
        if self._duplex.buffers_response:
            self.wait_seconds = RESPONSE_BODY_SECONDS
        return replies

    def _guarded(self, step: Callable[..., list[Outgoing]], *arguments: object) -> list[Outgoing]:
        """Run one step. Whatever it raises, Envoy gets an answer to the message that it waits for."""
        try:
            return step(*arguments)
        except ProtocolViolation as violation:
            self._warn("protocol violation: %s", violation)
            if self._duplex is not None and self._duplex.buffers(self._phase):
                return self._after_bug()  # what is buffered must neither stay here nor pass unchecked
        except Exception:
            logger.exception("internal error while handling %s", self._phase.value)
            return self._after_bug()
        return self._go_on()

    def _warn(self, what: str, *details: object) -> None:
        """Log the first warning of this stream only, so that a peer cannot fill the log."""
        if not self._warned:
            self._warned = True
            logger.warning(what, *details)

    def _after_bug(self) -> list[Outgoing]:
        """The JSON 500 while that is possible, else the reply that changes nothing."""
        self._dispatcher.bug()
        answers = [one for one in self._exchange.internal_error() if isinstance(one, Immediate)]
        return [reply for one in answers for reply in self._encode(one)] or self._go_on()

    def _go_on(self) -> list[Outgoing]:
        """The reply that changes nothing."""
        return [encoding.EMPTY_CONTINUE[self._phase]] if self._duplex is None else self._duplex.go_on(self._phase)

    def _wait_for(self, waiting: Pending) -> list[Outgoing]:
        """Set `pending` for the transport. If Envoy would not wait so long, the reply asks it to.

        Envoy can be asked once for each message, and a message may lead to several waits.
        """
        self._waiting, self.pending = waiting, self._settled(waiting)
        policy = self._exchange.policy
        if waiting.seconds <= policy.message_seconds * WAIT_SHARE or self._duplex is not None:
            return []
        if self._extended is self._phase:
            return []
        self._extended = self._phase
        return [encoding.encode_message_timeout(max(waiting.seconds / WAIT_SHARE, policy.longest_message_seconds))]

    async def _settled(self, waiting: Pending) -> Answer | None:
        """Wait for an answer. None if waiting raised, which counts as a bug."""
        try:
            return await waiting.wait()
        except Exception:
            logger.exception("internal error while waiting for an answer")
            return None

    def close(self, cause: events.Cause) -> None:
        """The stream is over: report the closing fact. Further calls do nothing."""
        if self._closed:
            return
        self._closed = True
        self.expire_now = None  # it refers to this session; without the cycle both are freed at once
        if self.pending is not None and inspect.getcoroutinestate(self.pending) == inspect.CORO_CREATED:
            self.pending.close()  # the stream ended before the transport awaited it
            if self._waiting is not None:
                self._waiting.drop()
        self._waiting = None
        if self._engine is not None and self._traffic is not None:
            self._traffic.ended(self._engine, self)
        self._advance(events.StreamClosed(self._clock(), cause))

    def _advance(self, event: events.Event) -> list[Outgoing]:
        replies: list[Outgoing] = []
        next_event: events.Event | None = event
        while next_event is not None:
            outputs, next_event = self._exchange.receive(next_event), None
            for output in outputs:
                if type(output) is Continue or type(output) is Immediate:
                    if type(output) is Continue and output.dynamic_metadata is not None and self._seal is not None:
                        output = replace(output, dynamic_metadata=self._seal(output.dynamic_metadata))
                    if self._duplex is None:
                        replies.append(_encoded(output))
                    else:
                        replies += self._encode(output)
                elif type(output) is WaitFor:
                    self.wait_seconds = output.seconds
                elif type(output) in FACTS:
                    if self._traffic is not None and _is_sent(output):
                        self._engine = output.identity
                        self._traffic.placed(output.identity, self, self._clock())
                    self._dispatcher.observe(output)  # type: ignore[arg-type]
                else:
                    answer = self._dispatcher.answer(output)  # type: ignore[arg-type]
                    if type(answer) is Pending:
                        replies += self._wait_for(answer)
                    else:
                        next_event = answer  # an event leads to one ask at most
        return replies


def _is_sent(fact: object) -> TypeGuard[Assigned | Forwarded]:
    """Whether the exchange goes to an endpoint with this fact, and not to a prefill engine first."""
    return (type(fact) is Assigned and not fact.prefill) or type(fact) is Forwarded


def _encoded(reply: Reply) -> Outgoing:
    if type(reply) is Continue and reply.large_body is not None:
        return encoding.encode_large(reply, reply.large_body)
    return encoding.encode(reply)
