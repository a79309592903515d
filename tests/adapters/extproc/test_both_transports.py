"""One suite on both transports: whatever carries a session, Envoy and the facts must not tell the difference."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import (
    HttpBody,
    HttpHeaders,
    ProcessingRequest,
    ProcessingResponse,
)
from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer
from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.adapters.extproc.service import LIVENESS, READINESS, ExtProcServer
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.app.dispatch import pending
from aibrix_extproc.core.exchange import asks, events
from aibrix_extproc.core.exchange.asks import Ask, Authenticate, Place
from aibrix_extproc.core.exchange.outputs import Fact, Finished, Outcome, Phase
from tests.adapters.extproc.transports import DEADLINE_SECONDS, NOT_SERVING, SERVING, check, plain, refused
from tests.build import CALLER, MAX_BODY_BYTES, a_placed, a_request_body, a_request_head, a_response_head, an_exchange
from tests.waiting import until

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
CHECK = "/grpc.health.v1.Health/Check"
LISTEN = "/test.Log/Listen"


class DispatcherBug(Exception):
    """A mistake of ours."""


class Dispatcher:
    """Lets everyone in and places everything, at once or when told to."""

    def __init__(self) -> None:
        self.waits = False
        self.breaks = False
        self.gate: asyncio.Event = asyncio.Event()
        self.finished: list[Finished] = []
        self.asked = 0
        self.bugs = 0

    def answer(self, ask: Ask) -> Any:
        self.asked += 1
        if self.breaks:
            raise DispatcherBug
        match ask:
            case Authenticate():
                return asks.Admitted(CALLER)
            case Place():
                return pending(self._place(), 4.0) if self.waits else a_placed()
            case _:
                return asks.Described(200, (), b"{}")

    async def _place(self) -> asks.Answer:
        await self.gate.wait()
        return a_placed()

    def observe(self, fact: Fact) -> None:
        if isinstance(fact, Finished):
            self.finished.append(fact)

    def timed(self, phase: Phase, seconds: float) -> None:
        pass

    def bug(self) -> None:
        self.bugs += 1


def ticking() -> Callable[[], float]:
    ticks: Iterator[int] = iter(range(10_000_000))
    return lambda: next(ticks) / 1000


class Twin:
    """A transport with its dispatcher, and a client."""

    def __init__(self, transport: Callable[..., ExtProcServer]) -> None:
        self.dispatcher = Dispatcher()
        self.heard: list[bytes] = []
        clock = ticking()
        self.server = transport(
            lambda: Session(self.dispatcher, an_exchange(), clock, lambda: "made-id"),
            max_body_bytes=MAX_BODY_BYTES,
            inlets={LISTEN: self.heard.append},
        )
        self.channel: Any = None
        # grpc.aio tells a coroutine that reads of a cancelled stream as of one that is half closed, if it is quick.
        self.cancelled = events.Cause.HALF_CLOSED if transport is GrpcioServer else events.Cause.CANCELLED

    def process(self, **options: Any) -> Any:
        call = self.channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        return call(**options)

    async def check(self, name: str) -> Any:
        call = self.channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return (await call(health_pb2.HealthCheckRequest(service=name))).status


@pytest.fixture(name="twin", params=[GrpcioServer, LeanTransport], ids=["grpcio", "lean"])
async def run_twin(request: pytest.FixtureRequest) -> AsyncIterator[Twin]:
    twin = Twin(request.param)
    port = await twin.server.start("127.0.0.1", 0)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as twin.channel:
        yield twin
    with contextlib.suppress(Exception):
        await twin.server.drain(notice_seconds=0.0, drain_seconds=0.0)


def head(**named: Any) -> ProcessingRequest:
    return ProcessingRequest(request_headers=_headers(dict(a_request_head(**named).headers)))


def body() -> ProcessingRequest:
    return ProcessingRequest(request_body=HttpBody(body=a_request_body().data, end_of_stream=True))


def response_head() -> ProcessingRequest:
    return ProcessingRequest(response_headers=_headers(dict(a_response_head().headers)))


def _headers(named: dict[str, str]) -> HttpHeaders:
    message = HttpHeaders()
    for name, value in named.items():
        message.headers.headers.add(key=name, raw_value=value.encode("latin-1"))
    return message


async def ask(call: Any, message: ProcessingRequest) -> str:
    await call.write(message)
    answer = await call.read()
    return str(answer.WhichOneof("response"))


async def test_exchange_is_three_answers_and_a_good_end(twin: Twin) -> None:
    call = twin.process()
    assert await ask(call, head()) == "request_headers"
    assert await ask(call, body()) == "request_body"
    assert twin.server.running == 1
    assert await ask(call, response_head()) == "response_headers"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    await until(lambda: twin.dispatcher.finished)
    (finished,) = twin.dispatcher.finished
    assert (finished.outcome, finished.cause) == (Outcome.SERVED, events.Cause.HALF_CLOSED)
    await until(lambda: twin.server.running == 0)


async def test_cancelled_exchange_is_finished_once_as_cancelled(twin: Twin) -> None:
    call = twin.process()
    await ask(call, head())
    await ask(call, body())
    call.cancel()
    await until(lambda: twin.dispatcher.finished)
    assert [one.cause for one in twin.dispatcher.finished] in ([twin.cancelled], [events.Cause.CANCELLED])


async def test_lost_connection_finishes_every_exchange(twin: Twin) -> None:
    calls = [twin.process() for _ in range(5)]
    for call in calls:
        await ask(call, head())
    await twin.channel.close(grace=None)
    await until(lambda: len(twin.dispatcher.finished) == 5)
    assert {one.cause for one in twin.dispatcher.finished} <= {twin.cancelled, events.Cause.CANCELLED}


async def test_answer_that_must_be_waited_for_comes_when_it_is_there(twin: Twin) -> None:
    twin.dispatcher.waits = True
    call = twin.process()
    await ask(call, head())
    await call.write(body())
    await until(lambda: twin.dispatcher.asked == 2)
    twin.dispatcher.gate.set()
    assert (await call.read()).WhichOneof("response") == "request_body"


async def test_messages_that_do_not_wait_for_answers_are_answered_in_order(twin: Twin) -> None:
    twin.dispatcher.waits = True
    call = twin.process()
    for message in (head(), body(), response_head()):
        await call.write(message)
    await call.done_writing()
    await until(lambda: twin.dispatcher.asked == 2)
    twin.dispatcher.gate.set()
    answers = [answer.WhichOneof("response") async for answer in call]
    assert answers == ["request_headers", "request_body", "response_headers"]
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.slow
async def test_answer_that_is_due_comes_by_itself_though_envoy_says_nothing(twin: Twin) -> None:
    call = twin.process()
    await ask(call, head(x_stainless_read_timeout="1"))
    assert await ask(call, body()) == "request_body"
    async with asyncio.timeout(60):
        assert (await call.read()).immediate_response.status.code == 504
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await until(lambda: twin.dispatcher.finished)
    assert [one.status for one in twin.dispatcher.finished] == [504]


async def test_cancel_while_waiting_finishes_the_exchange_without_an_engine(twin: Twin) -> None:
    twin.dispatcher.waits = True
    call = twin.process()
    await ask(call, head())
    await call.write(body())
    await until(lambda: twin.dispatcher.asked == 2)
    call.cancel()
    await until(lambda: twin.dispatcher.finished)
    twin.dispatcher.gate.set()
    assert [one.assigned_to for one in twin.dispatcher.finished] == [None]


async def test_bug_is_answered_as_an_internal_error_of_the_exchange(twin: Twin) -> None:
    twin.dispatcher.breaks = True
    call = twin.process()
    await call.write(head())
    assert (await call.read()).immediate_response.status.code == 500
    assert twin.dispatcher.bugs == 1
    call.cancel()


async def test_message_that_is_no_protobuf_ends_its_call_as_internal(twin: Twin) -> None:
    call = twin.channel.stream_stream(PROCESS)()
    await call.write(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call.read()
    assert refusal.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    await until(lambda: twin.server.running == 0)


async def test_message_that_is_too_large_is_refused(twin: Twin) -> None:
    call = twin.process()
    await call.write(ProcessingRequest(request_body=HttpBody(body=bytes(MAX_BODY_BYTES + 2 * 1024 * 1024))))
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await call.read()
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_unknown_method_is_unimplemented(twin: Twin) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await twin.channel.unary_unary("/envoy.service.ext_proc.v3.ExternalProcessor/Other")(b"")
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_deadline_of_the_client_ends_the_exchange(twin: Twin) -> None:
    async def heard() -> bool:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await ask_and_wait(twin.process(timeout=0.2))
        assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return twin.dispatcher.asked > 0  # a stalled machine may use the time up before the server hears of the call

    await until(heard)
    await until(lambda: len(twin.dispatcher.finished) == twin.dispatcher.asked)


async def ask_and_wait(call: Any) -> None:
    await ask(call, head())
    await call.read()


async def test_health_tells_readiness_from_liveness_and_knows_no_other_name(twin: Twin) -> None:
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    assert await twin.check(LIVENESS) == serving
    assert [await twin.check(name) for name in READINESS] == [not_serving] * len(READINESS)
    await twin.server.set_ready(True)
    assert [await twin.check(name) for name in READINESS] == [serving] * len(READINESS)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await twin.check("nobody")
    assert refusal.value.code() is grpc.StatusCode.NOT_FOUND


async def test_inlet_takes_each_message_and_is_no_running_exchange(twin: Twin) -> None:
    call = twin.channel.stream_unary(LISTEN)()
    await call.write(b"one")
    await call.write(b"two")
    await until(lambda: twin.heard == [b"one", b"two"])
    assert twin.server.running == 0
    await call.done_writing()
    assert await call == b""


async def test_drain_lets_the_running_exchange_finish_and_then_nobody_answers(twin: Twin) -> None:
    await twin.server.set_ready(True)
    health_port = await twin.server.start_health("127.0.0.1", 0)
    call = twin.process()
    await ask(call, head())
    drain = asyncio.create_task(twin.server.drain(notice_seconds=0.0, drain_seconds=DEADLINE_SECONDS))
    async with plain(health_port) as health:
        await until(lambda: not_serving(health))
        assert await check(health, LIVENESS) == SERVING
        await finish(call)
        await drain
        assert await refused(check(health, LIVENESS)) is grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await twin.check(LIVENESS)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def not_serving(health: Any) -> bool:
    return bool(await check(health, "readiness") == NOT_SERVING)


async def finish(call: Any) -> None:
    """The rest of an exchange whose head was asked."""
    assert await ask(call, body()) == "request_body"
    assert await ask(call, response_head()) == "response_headers"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_drain_ends_what_does_not_end_by_itself(twin: Twin) -> None:
    call = twin.process()
    await ask(call, head())
    await twin.server.drain(notice_seconds=0.0, drain_seconds=0.1)
    assert await call.code() is not grpc.StatusCode.OK
    await until(lambda: len(twin.dispatcher.finished) == 1)


async def test_busy_port_is_an_error(twin: Twin) -> None:
    other = Twin(type(twin.server))
    port = await other.server.start("127.0.0.1", 0)
    with pytest.raises(OSError, match=r"."):
        await Twin(type(twin.server)).server.start("127.0.0.1", port)
    await other.server.drain(notice_seconds=0.0, drain_seconds=0.0)
