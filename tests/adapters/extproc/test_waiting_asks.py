"""A handler that lets an exchange wait, on both transports: its deadline, a client that leaves, what Envoy hears."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from aibrix_extproc.adapters.extproc._generated.external_processor_pb2 import ProcessingRequest, ProcessingResponse
from aibrix_extproc.adapters.extproc.grpcio_server import GrpcioServer
from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.adapters.extproc.service import ExtProcServer
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.dispatch import Dispatcher, Handler
from aibrix_extproc.app.engine_load import LoadCount
from aibrix_extproc.app.observers import observers
from aibrix_extproc.core.exchange.asks import Admitted, Answer, Authenticate, Place
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.outputs import Finished, Outcome
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.owners import ResponseOwners
from tests.adapters.extproc.test_both_transports import PROCESS, body, head, response_head
from tests.build import CALLER, a_placed
from tests.waiting import until

MESSAGE_SECONDS = 50.0


class Rig:
    """A transport with the dispatcher that ships, whose placement waits as a test wants."""

    def __init__(self, transport: Callable[..., ExtProcServer]) -> None:
        self.place: Callable[[Place], Awaitable[Answer]] = self._place_when_free
        self.free = asyncio.Event()
        self.waiting = 0
        self.deadline_seconds = 40.0
        self.finished: list[Finished] = []
        self.load = LoadBook()
        self._metrics = Metrics()
        self.server = transport(self._session, max_body_bytes=1_000_000)
        self.channel: Any = None

    def _session(self) -> Session:
        owners = ResponseOwners([b"s" * 32])
        rows = observers(LoadCount(self.load, LoadBook()), owners, lambda _: None, self._metrics, log_every=False)
        dispatcher = Dispatcher(
            {
                Authenticate: Handler(lambda _: Admitted(CALLER)),
                Place: Handler(lambda ask: self.place(ask), self.deadline_seconds),
            },
            (*rows, (Finished, self.finished.append)),
            longest_wait_seconds=60.0,
            timed=self._metrics.timed,
            bug=self._metrics.bug,
        )
        exchange = Exchange(ExchangePolicy(message_seconds=MESSAGE_SECONDS))
        return Session(dispatcher, exchange, time.perf_counter, lambda: "made-id")

    async def _place_when_free(self, _: Place) -> Answer:
        self.waiting += 1
        try:
            await self.free.wait()
        finally:
            self.waiting -= 1
        return a_placed()

    def process(self) -> Any:
        call = self.channel.stream_stream(
            PROCESS,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        return call()

    async def asked(self) -> Any:
        """A stream whose placement waits."""
        call = self.process()
        await call.write(head())
        await call.read()
        await call.write(body())
        return call


@pytest.fixture(name="rig", params=[GrpcioServer, LeanTransport], ids=["grpcio", "lean"])
async def run_rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    port = await rig.server.start("127.0.0.1", 0)
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as rig.channel:
        yield rig
    with contextlib.suppress(Exception):
        await rig.server.drain(notice_seconds=0.0, drain_seconds=0.0)


def others() -> set[asyncio.Task[Any]]:
    """Tasks beside this test's own."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_handler_that_never_answers_ends_in_its_refusal_and_the_stream_goes_on(rig: Rig) -> None:
    rig.deadline_seconds = 0.02
    call = await rig.asked()
    immediate = (await call.read()).immediate_response
    error = json.loads(immediate.body)["error"]
    assert (immediate.status.code, error["code"], error["type"]) == (503, "decision_timeout", "server_error")
    assert immediate.details == "ext_proc_decision_timeout"
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    await until(lambda: rig.finished)
    assert [(one.outcome, one.problem, one.status) for one in rig.finished] == [
        (Outcome.REFUSED, "decision_timeout", 503)
    ]
    assert (rig.waiting, rig.load.total()) == (0, 0)


async def test_client_that_leaves_while_a_handler_waits_leaves_nothing_behind(rig: Rig) -> None:
    before = await rig.asked()  # whatever a first call makes for good
    await until(lambda: rig.waiting == 1)
    before.cancel()
    await until(lambda: rig.waiting == 0 and rig.server.running == 0)
    tasks = others()
    calls = [await rig.asked() for _ in range(5)]
    await until(lambda: rig.waiting == 5)
    for call in calls:
        call.cancel()
    await until(lambda: rig.waiting == 0 and rig.server.running == 0 and len(rig.finished) == 6)
    assert {one.outcome for one in rig.finished} == {Outcome.CANCELLED}
    assert rig.load.total() == 0
    del calls, call
    await until(lambda: len(others()) <= len(tasks), others)


async def test_client_that_leaves_in_the_very_turn_in_which_the_answer_comes_holds_no_load(rig: Rig) -> None:
    call = await rig.asked()
    await until(lambda: rig.waiting == 1)
    rig.free.set()
    call.cancel()
    await until(lambda: rig.finished)
    await until(lambda: rig.server.running == 0)
    assert (rig.waiting, rig.load.total()) == (0, 0)


@pytest.mark.parametrize(("deadline", "asked_for"), [(40.0, None), (41.0, 51.25), (48.0, 60.0)])
async def test_envoy_is_asked_to_wait_as_long_where_it_would_not(
    rig: Rig, deadline: float, asked_for: float | None
) -> None:
    rig.deadline_seconds = deadline
    call = await rig.asked()
    await until(lambda: rig.waiting == 1)
    if asked_for is not None:
        message = await call.read()  # before the answer
        assert message.WhichOneof("response") is None
        assert message.override_message_timeout.ToMilliseconds() == asked_for * 1000
    rig.free.set()
    assert (await call.read()).WhichOneof("response") == "request_body"
    assert rig.load.total() == 1
    await call.write(response_head())
    assert (await call.read()).WhichOneof("response") == "response_headers"
    call.cancel()
    await until(lambda: rig.load.total() == 0)
