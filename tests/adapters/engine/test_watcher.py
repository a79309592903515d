"""The watch over one engine: silence, signs of life, rest, and looks that cannot wait."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from aibrix_extproc.adapters.engine.probe import ALIVE
from aibrix_extproc.adapters.engine.watcher import PollPace
from aibrix_extproc.core.fleet.model import Health, ServedModel
from tests.adapters.engine.rig import IMPATIENT, PACE, FakeTraffic, Rig, polling
from tests.fakes.engine import FakeEngine
from tests.waiting import until


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with polling() as rig:
        yield rig


@pytest.fixture
async def impatient() -> AsyncIterator[Rig]:
    """A rig whose looks do not wait long; what a stalled machine makes of the first looks does not count in tests."""
    async with polling(IMPATIENT) as rig:
        yield rig


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine("chat-m") as engine:
        yield engine


@pytest.mark.parametrize(
    ("path", "field", "word"),
    [("/is_sleeping", "is_sleeping", "asleep or paused"), ("/is_paused", "is_paused", "paused")],
)
async def test_engine_at_rest_is_asleep_until_it_goes_on(
    rig: Rig, engine: FakeEngine, path: str, field: str, word: str
) -> None:
    engine.answers[path] = (200, f'{{"{field}": false}}'.encode())
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    engine.answers[path] = (200, f'{{"{field}": true}}'.encode())
    endpoint = await rig.becomes(engine, Health.ASLEEP)
    assert endpoint.detail.startswith(f"{word};")
    assert endpoint.models == (ServedModel("chat-m"),)
    engine.answers[path] = (200, f'{{"{field}": false}}'.encode())
    await rig.becomes(engine, Health.READY)


@pytest.mark.slow
async def test_ready_engine_that_misses_every_look_is_given_up_after_some(impatient: Rig, engine: FakeEngine) -> None:
    impatient.add(engine)
    await impatient.becomes(engine, Health.READY)
    before = engine.asked["/health"] + engine.asked["/v1/models"]
    engine.answers["/health"] = engine.answers["/v1/models"] = None
    endpoint = await impatient.becomes(engine, Health.SILENT)
    assert engine.asked["/health"] + engine.asked["/v1/models"] - before > IMPATIENT.patience
    assert endpoint.detail.startswith("no answer within 0.")
    # Nobody else serves the model, and a poll that times out is no refusal.
    assert impatient.store.snapshot.ready_by_model["chat-m"] == (endpoint,)


async def test_ready_engine_that_misses_one_look_stays_ready(impatient: Rig, engine: FakeEngine) -> None:
    impatient.add(engine)
    await impatient.becomes(engine, Health.READY)
    impatient.told.clear()
    good = engine.answers["/health"]
    before = engine.asked["/health"]
    engine.answers["/health"] = None
    await until(lambda: engine.asked["/health"] > before)
    engine.answers["/health"] = good
    await until(lambda: engine.asked["/health"] > before + 3)
    assert impatient.told == []


async def test_engine_that_was_silent_from_the_start_is_unreachable(impatient: Rig, engine: FakeEngine) -> None:
    engine.answers["/health"] = engine.answers["/v1/models"] = None
    impatient.add(engine)
    await impatient.becomes(engine, Health.UNREACHABLE)
    assert impatient.told[0].detail == "no answer within 0.25 s"


@pytest.mark.slow
async def test_silent_engine_gives_way_to_a_ready_one_and_is_out_when_it_refuses(
    impatient: Rig, engine: FakeEngine
) -> None:
    rig = impatient
    async with FakeEngine("chat-m") as other:
        rig.add(engine)
        rig.add(other)
        await rig.becomes(engine, Health.READY)
        await rig.becomes(other, Health.READY)
        engine.answers["/health"] = engine.answers["/v1/models"] = None
        await rig.becomes(engine, Health.SILENT)
        await until(lambda: rig.store.snapshot.ready_by_model["chat-m"] == (rig.endpoint(other),))
        await engine.stop()
        await rig.becomes(engine, Health.UNREACHABLE)
    await rig.becomes(other, Health.UNREACHABLE)
    assert not rig.store.snapshot.ready_by_model["chat-m"]


async def test_engine_that_answers_clients_stays_ready_whatever_its_polls_say(engine: FakeEngine) -> None:
    traffic = FakeTraffic()
    async with polling(IMPATIENT, traffic) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        rig.told.clear()
        traffic.silence = 0.5
        before = engine.asked["/health"] + engine.asked["/v1/models"]
        engine.answers["/health"] = engine.answers["/v1/models"] = None
        await until(lambda: engine.asked["/health"] + engine.asked["/v1/models"] > before + IMPATIENT.patience + 2)
        assert rig.told == []


@pytest.mark.parametrize("answer", [(500, b"{}"), (502, b"<html>"), (200, b"<html>"), (200, b'{"data": 5}')])
async def test_engine_that_answers_clients_stays_ready_without_a_list(
    engine: FakeEngine, answer: tuple[int, bytes]
) -> None:
    traffic = FakeTraffic()
    async with polling(traffic=traffic) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        traffic.silence = 0.5
        engine.answers["/v1/models"] = answer
        await until(lambda: engine.asked["/v1/models"] > PACE.patience + 4)
        assert [seen.health for seen in rig.told] == [Health.READY]
        traffic.silence = float("inf")
        await rig.becomes(engine, Health.NOT_READY)


@pytest.mark.slow
async def test_silent_engine_that_answers_a_client_is_ready_again(engine: FakeEngine) -> None:
    traffic = FakeTraffic()
    async with polling(IMPATIENT, traffic) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        engine.answers["/health"] = engine.answers["/v1/models"] = None
        await rig.becomes(engine, Health.SILENT)
        traffic.silence = 0.5
        endpoint = await rig.becomes(engine, Health.READY)
        assert endpoint.detail == ALIVE
        assert endpoint.models == (ServedModel("chat-m"),)


@pytest.mark.slow
async def test_engine_whose_polls_are_slow_from_the_start_gets_the_time_that_it_needs(engine: FakeEngine) -> None:
    engine.delays["/health"] = engine.delays["/v1/models"] = 3 * IMPATIENT.timeout_seconds
    async with polling(IMPATIENT) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        told = len(rig.told)
        before = engine.asked["/health"]
        await until(lambda: engine.asked["/health"] > before + 1)
        assert len(rig.told) == told  # once known to be slow, it is not taken for silent again and again


async def test_engine_that_may_rest_is_asked_for_that_between_its_looks(engine: FakeEngine) -> None:
    engine.answers["/is_sleeping"] = (200, b'{"is_sleeping": false}')
    traffic = FakeTraffic()
    pace = PollPace(interval_seconds=60, rest_seconds=0.02, timeout_seconds=30)
    async with polling(pace, traffic) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        await until(lambda: engine.asked["/is_sleeping"] > 3)
        assert engine.asked["/health"] == 1
        engine.answers["/is_sleeping"] = (200, b'{"is_sleeping": true}')
        asleep_at = time.perf_counter()
        await until(lambda: traffic.rested)
        identity, awake_at = traffic.rested[0]
        assert identity == engine.address
        assert asleep_at - 60 < awake_at < asleep_at


async def test_engine_that_something_is_wrong_with_is_looked_at_at_once(engine: FakeEngine) -> None:
    async with polling(PollPace(interval_seconds=60, soon_seconds=0.01)) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        await engine.stop()
        rig.poller.look_soon("nobody")
        rig.poller.look_soon(engine.address)
        await rig.becomes(engine, Health.UNREACHABLE)


async def test_engine_that_was_changed_is_asked_for_its_list_at_once(engine: FakeEngine) -> None:
    async with polling(PollPace(interval_seconds=60, soon_seconds=60, rest_seconds=60)) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        for names in (("chat-m", "sql"), ("chat-m",), ("chat-m", "other")):
            engine.serve(*names)
            rig.poller.renew("nobody")
            rig.poller.renew(engine.address)
            await until(lambda names=names: tuple(one.id for one in rig.endpoint(engine).models) == names)  # type: ignore[misc]


async def test_silent_engine_does_not_hold_up_the_others(engine: FakeEngine) -> None:
    async with polling(PollPace(interval_seconds=0.04, timeout_seconds=60, concurrency=2)) as rig, FakeEngine() as mute:
        mute.answers["/health"] = None
        rig.add(mute)
        await until(lambda: mute.asked["/health"] == 1)
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        assert rig.endpoint(mute).health is Health.UNKNOWN


async def test_engine_with_the_rust_frontend_is_known_by_its_list(rig: Rig, engine: FakeEngine) -> None:
    engine.serve({"id": "chat-m", "owned_by": "vllm-frontend-rs"})
    rig.add(engine)
    assert (await rig.becomes(engine, Health.READY)).frontend == "rust"
    engine.serve({"id": "chat-m", "owned_by": "vllm"})
    await until(lambda: rig.endpoint(engine).frontend == "")


async def test_engine_that_much_goes_wrong_with_is_not_looked_at_more_often_than_it_can_bear(
    engine: FakeEngine,
) -> None:
    async with polling(PollPace(interval_seconds=60, soon_seconds=0.1)) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        started = time.perf_counter()
        looks, seconds = 0, 0.0
        while seconds < 0.45 or not looks:
            rig.poller.look_soon(engine.address)
            await asyncio.sleep(0.001)
            looks = engine.asked["/health"] + engine.asked["/v1/models"] - 2  # the first look asks for both
            seconds = time.perf_counter() - started
        assert looks <= 1 + seconds / 0.1
