"""Desired adapters are loaded, healed, moved and unloaded on simulated engines."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.placed import State
from aibrix_extproc.simulator.options import LoraModule
from tests.metadata.working_engines import Engines
from tests.waiting import until

SQL = DesiredAdapter("sql", "/adapters/sql", "llama")
TWO = DesiredAdapter("two", "/adapters/two", "llama", replicas=2)


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    async with Engines(database) as found:
        yield found
    await database.close()


async def test_one_record_loads_an_adapter_on_every_engine_and_its_end_unloads_it(engines: Engines) -> None:
    await engines.start("a", "b", "c")
    async with engines.working():
        await engines.want(SQL)
        await engines.wait_loaded("sql", "a", "b", "c")
        assert {engines.calls(name, "/v1/load_lora_adapter") for name in "abc"} == {1}
        assert set(engines.told) == {"a", "b", "c"}
        await until(lambda: len(engines.snapshot.ready_by_model.get("sql", ())) == 3, "all serve it")
        await engines.drop("sql")
        await engines.wait_loaded("sql")

        async def forgotten() -> bool:
            return await engines.state("sql") == {}

        await until(forgotten, "nothing is left of it")


async def test_an_engine_that_comes_back_without_its_adapter_gets_it_again(engines: Engines) -> None:
    await engines.start("a", "b")
    async with engines.working():
        await engines.want(SQL)
        await engines.wait_loaded("sql", "a", "b")
        await until(lambda: len(engines.snapshot.ready_by_model.get("sql", ())) == 2, "both serve it")
        await engines.stop("b")
        await until(lambda: len(engines.snapshot.ready_by_model["sql"]) == 1, "its end is noticed")
        await engines.start("b")
        assert engines.adapters("b") == set()
        await engines.wait_loaded("sql", "a", "b")


async def test_two_of_three_stay_two_when_a_pod_is_replaced(engines: Engines) -> None:
    await engines.start("a", "b", "c")
    async with engines.working():
        await engines.want(TWO)
        await until(lambda: len(engines.holders("two")) == 2, "two have it")
        before = engines.holders("two")
        await engines.wait_loaded("two", *before)
        gone, kept = sorted(before)
        await engines.stop(gone)
        del engines.running[gone]
        await engines.start("d")
        await until(lambda: len(engines.holders("two")) == 2, "two again")
        assert kept in engines.holders("two")


async def test_adapters_of_others_are_left_alone_and_count(engines: Engines) -> None:
    hand = LoraModule("two", "/adapters/two"), LoraModule("other", "/other")
    await engines.start("a", "b")
    await engines.start("z", loras=hand)
    async with engines.working():
        await engines.want(TWO)
        await until(lambda: len(engines.holders("two")) == 2, "one more has it")
        assert engines.calls("z", "/v1/load_lora_adapter") == 0
        await engines.wait_loaded("two", *engines.holders("two"))
        await engines.drop("two")
        await engines.wait_loaded("two")
        assert engines.adapters("z") == {"other"}


async def test_another_path_is_loaded_in_place_and_the_prefix_cache_is_reset(engines: Engines) -> None:
    await engines.start("a")
    async with engines.working():
        await engines.want(SQL)
        await engines.wait_loaded("sql", "a")
        await engines.want(DesiredAdapter("sql", "/adapters/sql-2", "llama"))

        def replaced() -> bool:
            return [one.path for one in engines.running["a"].engine.models.adapters] == ["/adapters/sql-2"]

        await until(replaced, "the new path is loaded")
        await until(lambda: engines.calls("a", "/reset_prefix_cache") == 1, "the cache is reset")
        await engines.wait_loaded("sql", "a")


async def test_an_adapter_that_does_not_fit_is_shown_with_the_words_of_the_engine(engines: Engines) -> None:
    await engines.start("a")
    async with engines.working():
        await engines.want(DesiredAdapter("bad", "/nope", "llama"))

        async def failed() -> bool:
            found = (await engines.state("bad")).get("a")
            return found is not None and found.state is State.FAILED and "No adapter found for /nope" in found.detail

        await until(failed, "the failure is stored")
        # It is tried again after a wait, and at once with another path.
        assert engines.calls("a", "/v1/load_lora_adapter") <= 2
        await engines.want(DesiredAdapter("bad", "/good", "llama"))
        await engines.wait_loaded("bad", "a")


async def test_several_adapters_come_to_an_engine_one_after_the_other(engines: Engines) -> None:
    await engines.start("a")
    async with engines.working():
        names = [f"a{number}" for number in range(12)]
        await asyncio.gather(*(engines.want(DesiredAdapter(name, f"/{name}", "llama")) for name in names))
        for name in names:
            await engines.wait_loaded(name, "a")


async def test_a_lazy_adapter_waits_for_a_demand(engines: Engines) -> None:
    await engines.start("a")
    async with engines.working():
        await engines.want(DesiredAdapter("lazy", "/lazy", "llama", lazy=True))
        await engines.want(SQL)
        await engines.wait_loaded("sql", "a")
        assert engines.holders("lazy") == set()
        await engines.demands.ask("lazy")
        await engines.wait_loaded("lazy", "a")


async def test_another_process_goes_on_after_the_end_of_the_first(engines: Engines) -> None:
    await engines.start("a", "b")
    async with engines.working("one"):
        await engines.want(SQL)
        await engines.wait_loaded("sql", "a", "b")
        async with engines.working("other") as other:
            assert not other.holds
    await engines.drop("sql")
    async with engines.working("other"):
        await engines.wait_loaded("sql")


async def test_an_unload_lets_a_stream_finish(engines: Engines) -> None:
    await engines.start("a", itl_ms=20.0)
    async with engines.working(), aiohttp.ClientSession() as session:
        await engines.want(SQL)
        await engines.wait_loaded("sql", "a")
        url = f"{engines.running['a'].base_url}/completions"
        body = {"model": "sql", "prompt": "x", "stream": True, "max_tokens": 60, "ignore_eos": True}
        async with session.post(url, json=body) as response:
            await response.content.readany()
            await engines.drop("sql")
            await engines.wait_loaded("sql")
            rest = await response.content.read()
        assert rest.rstrip().endswith(b"data: [DONE]")
        async with session.post(url, json=body) as response:
            assert response.status == 404
