"""The scraper against scripted engines and the simulator: what it reads, how often, and what bad answers lead to."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import aiohttp
import pytest

from aibrix_extproc.adapters.engine.client import MAX_ANSWER_BYTES
from aibrix_extproc.adapters.engine.gauges import NOT_KNOWN, RARE_PACE, GaugePace, GaugeScraper
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.fakes.engine import FakeEngine
from tests.waiting import until

PACE: Final = GaugePace(
    busy_seconds=0.01, idle_seconds=0.03, reads_per_second=1000.0, beat_seconds=0.002, retry_seconds=0.01,
    timeout_seconds=30.0, longest_share=1.0, longest_seconds=0.05,
)  # fmt: skip
PAGE: Final = b'vllm:num_requests_running{model_name="m"} 3.0\nvllm:num_requests_waiting{model_name="m"} 1.0\n'


class Rig:
    """The scraper on endpoints that a test may change, and all that it handed over."""

    def __init__(self) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.own: Counter[str] = Counter()
        self.readings: dict[str, list[EngineGauges]] = {}
        self.failures: list[tuple[str, str]] = []

    def read(self, endpoint: Endpoint, reading: EngineGauges) -> None:
        self.readings.setdefault(endpoint.identity, []).append(reading)

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        self.failures.append((endpoint.identity, reason))

    def add(self, address: str, **changes: object) -> Endpoint:
        endpoint = replace(Endpoint(address, address, health=Health.READY), **changes)  # type: ignore[arg-type]
        self.endpoints = (*self.endpoints, endpoint)
        return endpoint


@asynccontextmanager
async def page_elsewhere(
    page: Callable[[aiohttp.web.BaseRequest], Awaitable[aiohttp.web.StreamResponse]],
) -> AsyncIterator[dict[str, str]]:
    """The labels of an engine whose metrics are at a port of their own, which answers so."""
    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(page))
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield {"model.aibrix.ai/metric-port": str(runner.addresses[0][1])}
    finally:
        await runner.cleanup()


@asynccontextmanager
async def scraping(pace: GaugePace = PACE) -> AsyncIterator[Rig]:
    rig = Rig()
    scraper = GaugeScraper(
        lambda: rig.endpoints, lambda identity: rig.own[identity], rig, pace=pace, clock=time.monotonic
    )
    task = asyncio.ensure_future(scraper.run())
    try:
        yield rig
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine("m") as engine:
        engine.answers["/metrics"] = 200, PAGE
        yield engine


async def test_reading_has_what_the_engine_says_and_how_many_requests_were_ours(engine: FakeEngine) -> None:
    async with scraping() as rig:
        rig.own[engine.address] = 2
        rig.add(engine.address)
        await until(lambda: rig.readings)
        reading = rig.readings[engine.address][0]

    assert (reading.running, reading.waiting, reading.own) == (3.0, 1.0, 2)
    assert 0.0 <= time.monotonic() - reading.at < 60.0


async def test_simulated_engine_shows_its_true_state() -> None:
    async with Simulator(SimulatorOptions(models=("m",), itl_ms=20.0, max_num_seqs=2)) as sim, scraping() as rig:
        address = f"127.0.0.1:{sim.port}"
        rig.add(address)
        async with aiohttp.ClientSession() as session:
            body = {"model": "m", "prompt": "hello", "max_tokens": 4000, "ignore_eos": True}
            asks = [asyncio.ensure_future(session.post(f"{sim.url}/v1/completions", json=body)) for _ in range(3)]
            await until(lambda: [one for one in rig.readings.get(address, ()) if one.running == 2 and one.waiting == 1])
            for ask in asks:
                ask.cancel()
            await asyncio.gather(*asks, return_exceptions=True)
            await until(lambda: rig.readings[address][-1].running == 0)
            async with session.post(f"{sim.url}/sleep?level=1") as answer:
                assert answer.status == 200
        await until(lambda: rig.readings[address][-1].asleep)
        last = rig.readings[address][-1]

    assert (last.cache_tokens, last.block_tokens) == (16384 * 16, 16)
    assert last.prompt_tokens


async def test_an_engine_with_requests_of_ours_is_read_more_often(engine: FakeEngine) -> None:
    pace = replace(PACE, idle_seconds=60.0)
    async with scraping(pace) as rig, FakeEngine("m") as idle:
        idle.answers["/metrics"] = 200, PAGE
        rig.own[engine.address] = 1
        rig.add(idle.address)
        rig.add(engine.address)
        await until(lambda: len(rig.readings.get(engine.address, ())) > 5 and idle.address in rig.readings)

        assert idle.asked["/metrics"] == 1


async def test_a_slow_engine_has_one_request_at_most_and_is_asked_less_often(engine: FakeEngine) -> None:
    engine.delays["/metrics"] = 0.1
    pace = replace(PACE, longest_share=0.001, idle_seconds=0.0, busy_seconds=0.0)
    async with scraping(pace) as rig:
        rig.own[engine.address] = 1
        rig.add(engine.address)
        await until(lambda: rig.readings)
        async with FakeEngine("m") as other:  # as many beats as ten readings take
            other.answers["/metrics"] = 200, PAGE
            rig.add(other.address)
            await until(lambda: engine.asked["/metrics"] == 1 and other.asked["/metrics"] >= 1)

        assert engine.asked["/metrics"] == 1


async def test_all_engines_together_stay_within_the_budget(engine: FakeEngine) -> None:
    # One now, the next later.
    pace = replace(PACE, reads_per_second=0.001, busy_seconds=0.0, beat_seconds=1000.0)
    async with scraping(pace) as rig:
        for number in range(5):
            rig.add(engine.address, identity=f"e{number}")
        await until(lambda: rig.readings)

        assert engine.asked["/metrics"] == 1


async def check_that_it_fails_and_recovers(
    engine: FakeEngine, answer: tuple[int, bytes] | None, reason: str, pace: GaugePace = PACE
) -> None:
    engine.answers["/metrics"] = answer
    async with scraping(pace) as rig:
        rig.add(engine.address)
        assert await until(lambda: rig.failures[:1]) == [(engine.address, reason)]
        engine.answers["/metrics"] = 200, PAGE
        await until(lambda: rig.readings)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((404, b"no"), "/metrics answers 404"),
        ((200, b"<html>\n"), NOT_KNOWN),
        ((200, b"x" * (MAX_ANSWER_BYTES + 1)), f"its answer is over {MAX_ANSWER_BYTES} bytes"),
    ],
    ids=["missing", "html", "huge"],
)
async def test_a_page_that_cannot_be_read_is_tried_again_later(
    engine: FakeEngine, answer: tuple[int, bytes], reason: str
) -> None:
    await check_that_it_fails_and_recovers(engine, answer, reason)


async def test_a_page_that_does_not_come_is_tried_again_later(engine: FakeEngine) -> None:
    pace = replace(PACE, timeout_seconds=0.2)
    await check_that_it_fails_and_recovers(engine, None, "no answer within 0.2 s", pace)


async def test_at_a_rare_pace_a_new_engine_is_read_soon_and_another_pace_holds_at_once(engine: FakeEngine) -> None:
    rig = Rig()
    scraper = GaugeScraper(lambda: rig.endpoints, lambda _: 0, rig, pace=RARE_PACE, clock=time.monotonic)
    task = asyncio.ensure_future(scraper.run())
    rig.add(engine.address)
    await until(lambda: rig.readings)
    assert engine.asked["/metrics"] == 1

    scraper.use(PACE)
    await until(lambda: engine.asked["/metrics"] > 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_endpoints_that_may_not_be_picked_are_not_asked(engine: FakeEngine) -> None:
    async with scraping() as rig:
        asleep = rig.add(engine.address, health=Health.ASLEEP)
        async with FakeEngine("m") as other:
            other.answers["/metrics"] = 200, PAGE
            rig.add(other.address)
            await until(lambda: other.asked["/metrics"] > 2)
            assert engine.asked["/metrics"] == 0
            rig.endpoints = (replace(asleep, health=Health.READY),)
            await until(lambda: rig.readings.get(engine.address))


@pytest.mark.parametrize("port", ["0", "99999", "999999999999", "-1", "\u0663", "http", ""])
async def test_a_label_that_is_no_port_leaves_the_engines_own(engine: FakeEngine, port: str) -> None:
    async with scraping() as rig:
        rig.add(engine.address, labels={"model.aibrix.ai/metric-port": port})
        await until(lambda: rig.readings)


async def test_page_at_a_port_of_its_own_does_not_get_the_engines_key(engine: FakeEngine) -> None:
    seen: list[str | None] = []

    async def page(request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        seen.append(request.headers.get("authorization"))
        return aiohttp.web.Response(body=PAGE)

    async with page_elsewhere(page) as labels, scraping() as rig:
        rig.add(engine.address, labels=labels, api_key="sk-engine")
        await until(lambda: rig.readings)

    assert set(seen) == {None}
    assert engine.asked["/metrics"] == 0


async def test_exchange_that_ends_while_a_page_is_read_is_not_taken_for_one_of_others(engine: FakeEngine) -> None:
    own = iter([4, 1])  # before and after

    async def page(request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        rig.own[engine.address] = next(own, 1)
        return aiohttp.web.Response(body=PAGE)

    async with page_elsewhere(page) as labels, scraping() as rig:
        rig.add(engine.address, labels=labels)
        await until(lambda: len(rig.readings.get(engine.address, ())) >= 2)

    readings = rig.readings[engine.address]
    assert [(one.own, one.others) for one in readings[:2]] == [(4, 0.0), (4, 0.0)]
