"""The poller over real HTTP: what it tells of engines that come, work, fail, sleep and go."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from aibrix_extproc.adapters.engine.poller import beats_for, steady_seconds
from aibrix_extproc.adapters.engine.probe import ASK_AGAIN_SECONDS, TASK_ROUTES
from aibrix_extproc.adapters.engine.watcher import BEATS, PollPace
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Task
from aibrix_extproc.core.fleet.reduce import Changed, Gone
from aibrix_extproc.settings import FleetSettings
from tests.adapters.engine.rig import KEY, PACE, FakeTraffic, Rig, polling
from tests.fakes.engine import FakeEngine
from tests.waiting import until


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with polling() as rig:
        yield rig


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    async with FakeEngine("chat-m") as engine:
        yield engine


async def test_engine_with_alias_and_adapter_is_told_with_all_of_its_names(rig: Rig, engine: FakeEngine) -> None:
    engine.serve(
        {"id": "chat-m", "max_model_len": 4096, "root": "/models/chat", "parent": None, "permission": [{}]},
        {"id": "alias", "max_model_len": 4096},
        {"id": "lora-a", "parent": "chat-m", "max_model_len": None},
    )
    rig.add(engine)
    endpoint = await rig.becomes(engine, Health.READY)
    assert endpoint.models == (
        ServedModel("chat-m", None, 4096),
        ServedModel("alias", None, 4096),
        ServedModel("lora-a", "chat-m"),
    )
    assert endpoint.tasks == {Task.GENERATE}
    assert endpoint.detail == ""


@pytest.mark.parametrize("task", TASK_ROUTES, ids=str)
async def test_engine_that_has_one_task_route_is_told_with_that_task(rig: Rig, task: Task) -> None:
    async with FakeEngine("m", post_routes=[TASK_ROUTES[task]]) as engine:
        rig.add(engine)
        assert (await rig.becomes(engine, Health.READY)).tasks == {task}


async def test_engine_whose_routes_answer_neither_405_nor_404_has_no_known_task(rig: Rig, engine: FakeEngine) -> None:
    engine.answers["/score"] = (500, b"")
    rig.add(engine)
    assert (await rig.becomes(engine, Health.READY)).tasks == frozenset()


async def test_steady_engine_is_told_once_and_asked_again_and_again(rig: Rig, engine: FakeEngine) -> None:
    rig.add(engine)
    await until(lambda: engine.asked["/v1/models"] >= 4 and engine.asked["/health"] >= 4)
    assert [seen.health for seen in rig.told] == [Health.READY]
    # What does not change while an engine runs is asked once.
    assert engine.asked["/v1/chat/completions"] == 1
    assert engine.asked["/is_sleeping"] == engine.asked["/is_paused"] == 1
    assert ASK_AGAIN_SECONDS > 10


async def test_adapter_that_is_loaded_and_unloaded_later_is_noticed(rig: Rig, engine: FakeEngine) -> None:
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    engine.serve("chat-m", {"id": "lora-a", "parent": "chat-m"})
    await until(lambda: "lora-a" in rig.store.snapshot.ready_by_model)
    engine.serve("chat-m")
    await until(lambda: "lora-a" not in rig.store.snapshot.by_model)
    assert engine.asked["/v1/chat/completions"] == 1


async def test_engine_that_stops_keeps_its_models_and_is_ready_soon_after_it_is_back(
    rig: Rig, engine: FakeEngine
) -> None:
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    await engine.stop()
    endpoint = await rig.becomes(engine, Health.UNREACHABLE)
    assert endpoint.models == (ServedModel("chat-m"),)
    assert endpoint.tasks == {Task.GENERATE}
    assert endpoint.detail in {
        "connection refused",
        "the connection was closed before an answer",
        "connection reset by peer",
    }
    assert not rig.store.snapshot.ready_by_model["chat-m"]
    await engine.start()
    await rig.becomes(engine, Health.READY)


async def test_engine_that_comes_back_as_another_one_is_asked_for_its_task_anew(rig: Rig, engine: FakeEngine) -> None:
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    await engine.stop()
    await rig.becomes(engine, Health.UNREACHABLE)
    engine.post_routes = {TASK_ROUTES[Task.EMBED]}
    engine.answers["/version"] = (200, b'{"version":"0.33.0"}')
    await engine.start()
    endpoint = await rig.becomes(engine, Health.READY)
    assert (endpoint.tasks, endpoint.engine_version) == (frozenset({Task.EMBED}), "0.33.0")


@pytest.mark.parametrize("answer", [(404, b""), (200, b"0.33"), (200, b'{"version":33}'), (200, b"[" * 5000)])
async def test_engine_that_does_not_say_its_version_is_ready_without_one(
    rig: Rig, engine: FakeEngine, answer: tuple[int, bytes]
) -> None:
    engine.answers["/version"] = answer
    rig.add(engine)
    assert (await rig.becomes(engine, Health.READY)).engine_version == ""


async def test_engine_that_serves_another_model_without_having_been_away_is_asked_for_its_task_anew(
    rig: Rig, engine: FakeEngine
) -> None:
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    engine.post_routes = {TASK_ROUTES[Task.EMBED]}
    engine.serve("embed-m")
    await until(lambda: "embed-m" in rig.store.snapshot.ready_by_model)
    assert rig.endpoint(engine).tasks == {Task.EMBED}


async def test_engine_that_is_not_there_is_told_at_once_so_that_the_fleet_is_known(rig: Rig) -> None:
    async with FakeEngine("chat-m") as engine:
        pass
    rig.add(engine)
    endpoint = await rig.becomes(engine, Health.UNREACHABLE)
    assert endpoint.detail == "connection refused"
    await engine.start()
    await rig.becomes(engine, Health.READY)
    await engine.stop()


@pytest.mark.parametrize(
    ("path", "answer", "detail"),
    [
        ("/health", (503, b""), "its health check answers 503"),
        ("/health", (500, b"oops"), "its health check answers 500"),
        ("/v1/models", (500, b"{}"), "its list of models answers 500"),
        ("/v1/models", (302, b""), "its list of models answers 302"),
        ("/v1/models", (200, b"<html>"), "its list of models cannot be understood"),
        ("/v1/models", (200, b'{"data": "chat-m"}'), "its list of models cannot be understood"),
        ("/v1/models", (200, b'{"data": [{"id": 7}]}'), "its list of models cannot be understood"),
        ("/v1/models", (200, b"[" * 100_000), "its list of models cannot be understood"),
        ("/v1/models", (200, b'{"data": [{"id": "\xff"}]}'), "its list of models cannot be understood"),
        ("/v1/models", (200, b" " * (1024 * 1024 + 1)), "its answer is over 1048576 bytes"),
        ("/v1/models", (200, b'{"data":[' + b'{"id":"m"},' * 4096 + b'{"id":"m"}]}'), "it lists over 4096 models"),
    ],
    ids=[
        "health-503",
        "health-500",
        "models-500",
        "redirect",
        "html",
        "text",
        "number",
        "deep",
        "not-utf8",
        "huge",
        "many",
    ],
)
async def test_engine_with_a_bad_answer_is_not_ready_keeps_its_models_and_recovers(
    rig: Rig, engine: FakeEngine, path: str, answer: tuple[int, bytes], detail: str
) -> None:
    good = engine.answers[path]
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    engine.answers[path] = answer
    endpoint = await rig.becomes(engine, Health.NOT_READY)
    assert endpoint.detail == detail
    assert endpoint.models == (ServedModel("chat-m"),)
    engine.answers[path] = good
    await rig.becomes(engine, Health.READY)


async def test_engine_without_a_health_route_is_judged_by_its_models(rig: Rig, engine: FakeEngine) -> None:
    del engine.answers["/health"]
    rig.add(engine)
    await rig.becomes(engine, Health.READY)


async def test_engine_without_a_list_of_models_serves_what_its_source_gives(rig: Rig, engine: FakeEngine) -> None:
    del engine.answers["/v1/models"]
    given = Endpoint(identity=engine.address, address=engine.address, models=(ServedModel("static-m"),))
    rig.store.apply(Changed("test", given))
    endpoint = await rig.becomes(engine, Health.READY)
    assert endpoint.models == (ServedModel("static-m"),)
    assert "only models that the fleet's configuration gives are served" in endpoint.detail


@pytest.mark.parametrize(
    ("configured", "detail"),
    [
        ("sk-wrong-secret", "the engine refuses the configured key"),
        (None, "the engine wants a key, none is configured"),
    ],
    ids=["wrong-key", "no-key"],
)
async def test_engine_that_refuses_the_key_is_not_ready_until_the_key_is_right(
    rig: Rig, configured: str | None, detail: str
) -> None:
    async with FakeEngine("chat-m", api_key=KEY) as engine:
        rig.add(engine, api_key=configured)
        assert (await rig.becomes(engine, Health.NOT_READY)).detail == detail
        rig.add(engine, api_key=KEY)
        assert (await rig.becomes(engine, Health.READY)).tasks == {Task.GENERATE}


async def test_removed_endpoint_is_asked_no_more(rig: Rig, engine: FakeEngine) -> None:
    async with FakeEngine("other-m") as other:
        rig.add(engine)
        rig.add(other)
        await rig.becomes(engine, Health.READY)
        await rig.becomes(other, Health.READY)
        rig.store.apply(Gone("test", engine.address))
        await asyncio.sleep(0)
        asked, others = engine.asked.total(), other.asked.total()
        await until(lambda: other.asked.total() > others + 4)
        assert engine.asked.total() <= asked + 1


async def test_change_of_name_or_label_does_not_start_the_looking_anew(rig: Rig, engine: FakeEngine) -> None:
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    rig.store.apply(Changed("test", Endpoint(identity=engine.address, address=engine.address, name="renamed")))
    before = engine.asked["/health"]
    await until(lambda: engine.asked["/health"] > before + 2)
    assert rig.endpoint(engine).name == "renamed"
    assert rig.endpoint(engine).health is Health.READY
    assert engine.asked["/v1/chat/completions"] == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x16\x03\x01\x00\x00",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz",
    ],
    ids=["nothing", "tls", "short-body", "bad-status", "long-header", "bad-chunk"],
)
async def test_server_that_speaks_no_proper_http_is_reported_and_stops_nothing(rig: Rig, garbage: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        rig.store.apply(Changed("test", Endpoint(identity=address, address=address)))
        await until(lambda: len(rig.told) >= 1)
    assert rig.told[0].health in {Health.UNREACHABLE, Health.NOT_READY}
    assert rig.told[0].detail


async def test_keys_appear_in_no_log_line_and_no_detail(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with polling() as rig, FakeEngine("chat-m", api_key="sk-another") as engine:
        rig.add(engine, api_key=KEY)
        endpoint = await rig.becomes(engine, Health.NOT_READY)
        await engine.stop()
        await rig.becomes(engine, Health.UNREACHABLE)
    assert KEY not in caplog.text
    assert KEY not in repr(rig.told)
    assert KEY not in repr(endpoint)


async def test_many_engines_are_all_ready_within_one_round(rig: Rig) -> None:
    engines = [FakeEngine("chat-m") for _ in range(20)]
    for engine in engines:
        await engine.start()
        rig.add(engine)
    await until(lambda: len(rig.store.snapshot.ready_by_model.get("chat-m", ())) == len(engines))
    assert rig.store.known
    for engine in engines:
        await engine.stop()


def test_adapter_that_an_engine_loads_is_known_within_five_seconds_at_the_default_pace() -> None:
    assert PollPace().interval_seconds == FleetSettings().poll_seconds
    assert PollPace().news_seconds < 5  # acceptance MOD-06


@pytest.mark.parametrize(("engines", "seconds"), [(1, 2.0), (160, 2.0), (800, 10.0), (2400, 30.0), (9000, 30.0)])
def test_steady_engines_share_a_bounded_number_of_looks(engines: int, seconds: float) -> None:
    assert steady_seconds(PollPace(), engines) == seconds


async def test_engine_that_has_been_well_for_long_is_asked_less_often_than_one_that_is_new(engine: FakeEngine) -> None:
    pace = replace(PACE, steady_looks=3, looks_per_second=0.001, longest_seconds=600.0)
    async with polling(pace) as rig, FakeEngine("other-m") as other:
        rig.add(engine)
        await until(lambda: looks(engine) >= 4)
        rig.add(other)
        await until(lambda: looks(other) >= 4)
        assert looks(engine) == 4
        rig.poller.look_soon(engine.address)
        await until(lambda: looks(engine) >= 5)


def looks(engine: FakeEngine) -> int:
    return engine.asked["/health"] + engine.asked["/v1/models"] - 1  # the first look asks for both


async def test_engine_that_answers_clients_is_asked_for_its_models_and_not_for_its_health(engine: FakeEngine) -> None:
    traffic = FakeTraffic()
    async with polling(traffic=traffic) as rig:
        rig.add(engine)
        await rig.becomes(engine, Health.READY)
        traffic.silence = 0.0
        before = engine.asked["/health"], engine.asked["/v1/models"]
        await until(lambda: engine.asked["/v1/models"] >= before[1] + 5)
        assert engine.asked["/health"] <= before[0] + 1
        traffic.silence = math.inf
        await until(lambda: engine.asked["/health"] >= before[0] + 3)


@pytest.mark.parametrize(("endpoints", "beats"), [(0, BEATS), (4, BEATS), (80, BEATS), (1000, 125)])
def test_beats_grow_with_the_fleet_so_that_few_looks_fall_on_each(endpoints: int, beats: int) -> None:
    assert beats_for(endpoints) == beats


async def test_name_that_a_source_gives_later_is_judged_by_the_next_list_even_if_that_is_the_same(
    rig: Rig, engine: FakeEngine
) -> None:
    rig.add(engine)
    await rig.becomes(engine, Health.READY)
    late = ServedModel("late-m", parent="chat-m")
    rig.store.apply(Changed("test", Endpoint(identity=engine.address, address=engine.address, models=(late,))))
    assert late in rig.endpoint(engine).models
    await until(lambda: rig.endpoint(engine).models == (ServedModel("chat-m"),))
    assert "'late-m'" in rig.endpoint(engine).warning
