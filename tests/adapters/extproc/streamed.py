"""A session in FULL_DUPLEX_STREAMED, driven as a data plane drives it, and what came out of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    HttpTrailers,
    ProcessingMode,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.interfaces import Machine
from aibrix_extproc.adapters.extproc.outgoing import Outgoing, whole_messages
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.core.exchange import asks
from aibrix_extproc.core.exchange.asks import Ask, Authenticate, Place
from aibrix_extproc.core.exchange.outputs import Fact, Finished, Phase
from tests.build import CALLER, a_placed, a_request_body, a_request_head, a_response_head, an_exchange

DUPLEX = ProcessingMode.BodySendMode.FULL_DUPLEX_STREAMED
HEAD, BODY, TRAILERS = "request_headers", "request_body", "request_trailers"
CHAT = a_request_body().data


class Dispatcher:
    """Lets everyone in and places everything."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.facts: list[Fact] = []
        self.bugs = 0
        self.breaks: type | None = None

    def answer(self, ask: Ask) -> Any:
        self.asks.append(ask)
        if type(ask) is self.breaks:
            raise RuntimeError
        match ask:
            case Authenticate():
                return asks.Admitted(CALLER)
            case Place():
                return a_placed()
            case _:
                return asks.Described(200, (), b"{}")

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)
        if type(fact) is self.breaks:
            raise RuntimeError

    def timed(self, phase: Phase, seconds: float) -> None:
        pass

    def bug(self) -> None:
        self.bugs += 1

    @property
    def finished(self) -> Finished:
        (fact,) = [fact for fact in self.facts if isinstance(fact, Finished)]
        return fact


@dataclass
class Conversation:
    """A session with everything that it was told and that it said."""

    session: Session
    dispatcher: Dispatcher
    modes: dict[str, Any] | None
    said: list[ProcessingResponse] = field(default_factory=list)
    begun: bool = False

    def tell(self, message: ProcessingRequest) -> list[ProcessingResponse]:
        """One message; the first one says how bodies come."""
        if not self.begun and self.modes is not None:
            for name, mode in self.modes.items():
                setattr(message.protocol_config, name, mode)
        self.begun = True
        return self.heard(self.session.receive(ProcessingRequest.FromString(message.SerializeToString())))

    def heard(self, replies: list[Outgoing]) -> list[ProcessingResponse]:
        new = [ProcessingResponse.FromString(one) for one in whole_messages(replies)]
        self.said += new
        return new

    def kinds(self) -> list[str | None]:
        return [one.WhichOneof("response") for one in self.said]

    def body(self, kind: str = BODY) -> bytes:
        """What the pieces of one direction add up to."""
        return b"".join(piece(one)[0] for one in self.said if one.WhichOneof("response") == kind)


def a_conversation(
    *,
    request: int | None = DUPLEX,
    response: int | None = DUPLEX,
    exchange: Machine | None = None,
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> Conversation:
    """A data plane that streams both ways, or as told; it does not say how if both are None."""
    dispatcher = Dispatcher()
    session = Session(dispatcher, exchange or an_exchange(), clock or (lambda: 1.0), lambda: "made-id", **options)
    told = {"request_body_mode": request, "response_body_mode": response}
    modes = {name: mode for name, mode in told.items() if mode is not None}
    return Conversation(session, dispatcher, modes or None)


def piece(reply: ProcessingResponse) -> tuple[bytes, bool]:
    """The piece of a body in a reply, and whether it is the last one; no other answer to a body is allowed."""
    kind = reply.WhichOneof("response")
    assert kind in ("request_body", "response_body"), kind
    common = getattr(reply, kind).response
    assert common.body_mutation.WhichOneof("mutation") == "streamed_response"
    assert not common.HasField("header_mutation")
    streamed = common.body_mutation.streamed_response
    return streamed.body, streamed.end_of_stream


def set_headers(reply: ProcessingResponse) -> dict[str, str]:
    """The headers that a reply to a head sets."""
    kind = str(reply.WhichOneof("response"))
    mutation = (
        reply.immediate_response.headers
        if kind == "immediate_response"
        else getattr(reply, kind).response.header_mutation
    )
    return {one.header.key: one.header.raw_value.decode() for one in mutation.set_headers}


def removed_headers(reply: ProcessingResponse) -> list[str]:
    return list(getattr(reply, str(reply.WhichOneof("response"))).response.header_mutation.remove_headers)


def http_headers(headers: dict[str, str], *, end_of_stream: bool = False) -> HttpHeaders:
    message = HttpHeaders(end_of_stream=end_of_stream)
    for name, value in headers.items():
        message.headers.headers.add(key=name, raw_value=value.encode("latin-1"))
    return message


def request_head(*arguments: Any, **head: Any) -> ProcessingRequest:
    event = a_request_head(*arguments, **head)
    return ProcessingRequest(request_headers=http_headers(dict(event.headers), end_of_stream=event.end_of_stream))


def request_body(data: bytes, *, end: bool = False) -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=data, end_of_stream=end))


def request_trailers() -> ProcessingRequest:
    return ProcessingRequest(request_trailers=HttpTrailers())


def response_head(status: int = 200, **head: Any) -> ProcessingRequest:
    event = a_response_head(status, **head)
    message = ProcessingRequest(response_headers=http_headers(dict(event.headers), end_of_stream=event.end_of_stream))
    fields = message.attributes["envoy.filters.http.ext_proc"].fields
    fields["response.code_details"].string_value = event.code_details
    fields["upstream.address"].string_value = event.upstream_address
    return message


def response_body(data: bytes, *, end: bool = False) -> ProcessingRequest:
    return ProcessingRequest(response_body=HttpBody(body=data, end_of_stream=end))


def response_trailers() -> ProcessingRequest:
    return ProcessingRequest(response_trailers=HttpTrailers())
