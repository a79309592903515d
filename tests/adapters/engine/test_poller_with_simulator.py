"""The poller against the simulator, which behaves as vLLM does: the scripted engine must not have lied."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from aibrix_extproc.adapters.engine.poller import EnginePoller
from aibrix_extproc.adapters.engine.watcher import PollPace
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.core.fleet.model import Endpoint, Health, Task
from aibrix_extproc.core.fleet.reduce import Listed
from aibrix_extproc.simulator.options import LoraModule, SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.waiting import until

PACE = PollPace(interval_seconds=0.04, retry_seconds=0.01, timeout_seconds=30.0)
OPTIONS = SimulatorOptions(
    models=("sim-model", "alias-a"), max_model_len=256, loras=(LoraModule("lora-a", "/l"),), api_keys=("sk-engine",)
)


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator(OPTIONS) as sim:
        yield sim


@pytest.fixture
async def store(sim: Simulator) -> AsyncIterator[FleetStore]:
    store = FleetStore(["test"])
    address = f"127.0.0.1:{sim.port}"
    store.apply(Listed("test", (Endpoint(identity=address, address=address, api_key="sk-engine"),)))
    poller = EnginePoller(lambda: store.snapshot.endpoints, store.apply, pace=PACE)
    store.subscribe_given(poller.wake)
    task = asyncio.ensure_future(poller.run())
    await asyncio.wait_for(store.wait_known(), 60)
    yield store
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def becomes(store: FleetStore, health: Health) -> Endpoint:
    await until(lambda: store.snapshot.endpoints[0].health is health)
    return store.snapshot.endpoints[0]


async def post(sim: Simulator, path: str, body: object = None) -> None:
    headers = {"authorization": "Bearer sk-engine"}
    async with aiohttp.ClientSession() as session, session.post(sim.url + path, json=body, headers=headers) as response:
        assert response.status == 200, await response.text()


async def test_simulated_vllm_is_ready_with_its_names_adapters_and_task(store: FleetStore) -> None:
    endpoint = await becomes(store, Health.READY)
    assert {model.id: model.parent for model in endpoint.models} == {
        "sim-model": None,
        "alias-a": None,
        "lora-a": "sim-model",
    }
    assert store.snapshot.models["sim-model"].max_model_len == 256
    assert endpoint.tasks == {Task.GENERATE}


async def test_simulated_vllm_that_is_paused_or_asleep_is_asleep_here(sim: Simulator, store: FleetStore) -> None:
    await becomes(store, Health.READY)
    for rest, go_on in (("/pause", "/resume"), ("/sleep", "/wake_up")):
        await post(sim, rest)
        await becomes(store, Health.ASLEEP)
        await post(sim, go_on)
        await becomes(store, Health.READY)


async def test_adapter_loaded_into_simulated_vllm_becomes_a_model_of_the_fleet(
    sim: Simulator, store: FleetStore
) -> None:
    await post(sim, "/v1/load_lora_adapter", {"lora_name": "lora-b", "lora_path": "/l"})
    await until(lambda: "lora-b" in store.snapshot.ready_by_model)


async def test_simulated_vllm_that_dies_is_unreachable_and_its_models_stay_known(
    sim: Simulator, store: FleetStore
) -> None:
    await becomes(store, Health.READY)
    sim.crash()
    await becomes(store, Health.UNREACHABLE)
    assert store.snapshot.ready_by_model["sim-model"] == ()
    assert len(store.snapshot.by_model["sim-model"]) == 1
