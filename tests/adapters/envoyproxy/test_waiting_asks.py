"""A real Envoy waits longer than its message timeout for a handler of ours that asks it to, on both transports."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from aibrix_extproc.adapters.extproc.lean_transport import LeanTransport
from aibrix_extproc.adapters.extproc.session import Session
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.dispatch import Dispatcher, Handler
from aibrix_extproc.core.exchange.asks import Admitted, Answer, Authenticate, Place, Placed
from aibrix_extproc.core.exchange.machine import Exchange
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.placing import Placement
from tests.adapters.envoyproxy.rig import LOOPBACK, RunningEnvoy, ScriptedEngine, ScriptedProcessor, running_envoy
from tests.adapters.extproc.transports import Transport, each_transport
from tests.build import CALLER, an_endpoint
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow]

MESSAGE_SECONDS = 1.5  # for Envoy to hear from the gateway, and for a placement without more time
LONGER = 2.0


@asynccontextmanager
async def waiting_gateway(
    transport: Transport, folder: Path, place: Callable[[Place], Awaitable[Answer]], deadline: float, most: float
) -> AsyncIterator[RunningEnvoy]:
    """An Envoy and a gateway whose placement takes its time."""
    metrics, processor = Metrics(), ScriptedProcessor()
    dispatcher = Dispatcher(
        {Authenticate: Handler(lambda _: Admitted(CALLER)), Place: Handler(place, deadline)},
        (),
        longest_wait_seconds=60.0,
        timed=metrics.timed,
        bug=metrics.bug,
    )

    def new_session() -> Session:
        exchange = Exchange(ExchangePolicy(message_seconds=MESSAGE_SECONDS))
        return Session(dispatcher, exchange, time.perf_counter, lambda: "made-id")

    server = transport(new_session, max_body_bytes=1_000_000)
    await server.start(LOOPBACK, processor.port)
    await server.set_ready(True)
    try:
        async with running_envoy(folder, processor, message_timeout=MESSAGE_SECONDS, max_message_timeout=most) as envoy:
            await until(lambda: _is_reached(envoy), "Envoy's threads see the processor")
            yield envoy
    finally:
        await server.drain(notice_seconds=0.0, drain_seconds=0.0)


async def _is_reached(envoy: RunningEnvoy) -> bool:
    return (await envoy.ask(method="OPTIONS")).status == 204  # answered without an ask


@each_transport
async def test_envoy_waits_for_a_placement_that_takes_longer_than_its_message_timeout(
    transport: Transport, tmp_path: Path
) -> None:
    async with ScriptedEngine().running() as engine:

        async def place(_: Place) -> Answer:
            await asyncio.sleep(LONGER)
            endpoint = an_endpoint(1, address=engine.address)
            return Placed(time.perf_counter(), Placement("random", "m", (endpoint,)))

        async with waiting_gateway(transport, tmp_path, place, deadline=20.0, most=60.0) as envoy:
            envoy.set_endpoints(engine.address)
            await envoy.wait_for_endpoints(1)
            began = time.monotonic()
            answer = await envoy.ask(headers={"content-type": "application/json"})
            assert answer.status == 200, answer
            assert time.monotonic() - began >= LONGER
            assert len(engine.requests) == 1


@each_transport
async def test_handler_that_never_answers_is_our_503_also_after_envoys_own_time(
    transport: Transport, tmp_path: Path
) -> None:
    async def place(_: Place) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async with waiting_gateway(transport, tmp_path, place, deadline=LONGER, most=60.0) as envoy:
        answer = await envoy.ask(headers={"content-type": "application/json"})
        assert (answer.status, answer.error["code"]) == (503, "decision_timeout")
        assert answer.headers["retry-after"] == "1"


async def test_envoy_without_a_maximum_does_not_wait_which_is_why_the_longest_wait_is_bounded_there(
    tmp_path: Path,
) -> None:
    async def place(_: Place) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    async with waiting_gateway(LeanTransport, tmp_path, place, deadline=20.0, most=0.0) as envoy:
        answer = await envoy.ask(headers={"content-type": "application/json"})
        assert (answer.status, answer.error["code"]) == (503, "gateway_unavailable")
