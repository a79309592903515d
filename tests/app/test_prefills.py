"""Prefills beside each other: the bound, the time, the books, and what is told of failures."""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from aibrix_extproc.app.decisions import Decisions
from aibrix_extproc.app.parts.prefills import Prefills
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.core.exchange.asks import Place, Placed, Prefill, PrefillDone
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.fleet.roles import EngineRole
from aibrix_extproc.core.openai.wire.prefill import Unsplit
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.disaggregation.handover import Handover
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Placer, Ranking
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.signals import SignalSources
from aibrix_extproc.settings import DisaggregationSettings
from tests.build import CALLER, MODEL, a_snapshot, an_endpoint, an_operation

GOOD = json.dumps({"kv_transfer_params": {"remote_host": "10.0.0.9"}}).encode()


class Counts:
    def __init__(self) -> None:
        self.outcomes = Counter[str]()
        self.failures = Counter[str]()

    def prefilled(self, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] += 1

    def prefill_failed(self, reason: str) -> None:
        self.failures[reason] += 1


class Setup:
    def __init__(self, **settings: Any) -> None:
        self.counts, self.load, self.polled = Counts(), LoadBook(), list[str]()
        self.predictor = Predictor()
        self.prefills = Prefills(
            DisaggregationSettings(**settings), 60.0, self.predictor, self.load, Decisions(0, time.time),
            self.polled.append, counts=self.counts, clock=time.perf_counter,
        )  # fmt: skip

    async def ask(self, *engines: Endpoint, body: bytes | Unsplit = b"{}") -> PrefillDone:
        answer = self.prefills.prefill(
            Prefill(Handover(engines), RouteQuery("m", body_bytes=9000), "/v1/chat/completions", body, "r")
        )
        return await answer if isinstance(answer, Awaitable) else answer


@asynccontextmanager
async def engine(body: bytes | None, name: str = "p") -> AsyncIterator[Endpoint]:
    """One that answers with this body; None: never."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if body is None:
            await gone.wait()
        else:
            writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Endpoint(identity=name, address=f"127.0.0.1:{server.sockets[0].getsockname()[1]}", name=name)
        gone.set()


@asynccontextmanager
async def running(setup: Setup) -> AsyncIterator[None]:
    part = asyncio.create_task(setup.prefills.run())
    yield
    part.cancel()
    await asyncio.gather(part, return_exceptions=True)
    assert setup.load.total() == 0


async def test_an_engine_that_stalls_gets_half_of_the_time_and_the_next_one_computes_the_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup(prefill_seconds=2.0)
    caplog.set_level(logging.WARNING)
    async with running(setup), engine(None, "slow") as slow, engine(GOOD, "good") as good:
        for _ in range(2):
            done = await setup.ask(slow, good)
            assert json.loads(done.transfer) == {"remote_host": "10.0.0.9"}
    assert setup.counts.outcomes == {"remote": 2}
    assert setup.counts.failures == {"timeout": 2}
    assert set(setup.polled) == {"slow"}
    assert len([one for one in caplog.records if one.name.endswith("prefills")]) == 1
    assert setup.predictor.avoided("slow", time.perf_counter()) > 0


async def test_engines_with_another_protocol_are_not_asked() -> None:
    setup = Setup()
    async with engine(GOOD) as vllm:
        done = await setup.ask(replace(vllm, engine="sglang"), body=b"{}")
    assert (done.transfer, setup.counts.outcomes) == (b"", {"other_engine": 1})


async def test_beyond_the_bound_decode_engines_compute_at_once() -> None:
    setup = Setup(max_prefills=1, prefill_seconds=60.0)
    async with running(setup), engine(None) as stalled:
        first = asyncio.create_task(setup.ask(stalled))
        while setup.load.total() == 0:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        assert (await setup.ask(stalled)).transfer == b""
        assert setup.counts.outcomes == {"busy": 1}
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


@pytest.mark.parametrize(("by", "tokens"), [("sidecar", 4000), ("sidecar", 10), ("gateway", 4000)])
def test_a_sidecar_is_told_the_prefill_engine_in_place_of_our_asking_it(by: str, tokens: int) -> None:
    setup = Setup(prefill_by=by)
    fleet = a_snapshot(an_endpoint(1, role=EngineRole.PREFILL), an_endpoint(2, role=EngineRole.DECODE))
    sources = SignalSources(setup.load, lambda: 0.5, lambda: 1.0, setup.predictor)
    placer = Placer(sources, ResponseOwners([b"secret"]), Ranking("predicted", most_local_tokens=256), lambda: 1.0)
    placing = Placing(placer, lambda: fleet, lambda: 1.0, prefills=setup.prefills)
    query = RouteQuery(MODEL, body_bytes=tokens * 4)
    placed = placing.place(Place(an_operation("chat_completion"), query, None, CALLER))
    assert isinstance(placed, Placed)
    remote = tokens > 256
    assert placed.engine_headers == (
        (("x-prefiller-host-port", "10.0.0.1:8000"),) if by == "sidecar" and remote else ()
    )
    assert (placed.handover is not None) == (by == "gateway")
    if by == "sidecar":
        assert setup.counts.outcomes == {"sidecar" if remote else "short": 1}


@pytest.mark.parametrize(
    ("body", "asked", "outcome"),
    [(b"{}", b"{}", "no_transfer"), (b"nonsense", b"{}", "failed"), (GOOD, Unsplit.ANSWERS, "unsuited")],
)
async def test_whatever_an_engine_says_the_request_goes_on(body: bytes, asked: bytes | Unsplit, outcome: str) -> None:
    setup = Setup()
    async with running(setup), engine(body) as one:
        assert (await setup.ask(one, body=asked)).transfer == b""
    assert setup.counts.outcomes == {outcome: 1}
