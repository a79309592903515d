"""Rolling operations under load, over real processes: nobody's request fails."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import running
from tests.operations.load import Paced, paced_load
from tests.operations.rig import ENDED, OperatedStack
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.operations]
FLEET = tuple(EngineSpec(f"e{number}", ("m",), ("--weight-transfer",)) for number in range(4))
NAP = {
    "operation": "sleep", "params": {"level": 1, "mode": "wait"}, "then": [{"operation": "wake_up"}],
    "target": {"model": "m"}, "order": "rolling", "keep_available": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedStack]:
    with ExitStack() as stacks:
        made = OperatedStack(tmp_path_factory.mktemp("operated"), FLEET)
        stacks.enter_context(running(made))
        yield made


async def watched(stack: OperatedStack, run_id: str, per_second: float) -> tuple[dict[str, Any], Paced, int]:
    """The run, the load during it, and the fewest endpoints that any gateway could send requests to."""
    fewest = len(stack.engines)

    async def has_ended() -> dict[str, Any] | None:
        nonlocal fewest
        for index in range(stack.gateways):
            endpoints = await asyncio.to_thread(stack.fleet_of, index)
            fewest = min(fewest, sum(one["health"] == "ready" and not one["cordon"] for one in endpoints))
        run = await asyncio.to_thread(stack.run, run_id)
        return run if run["status"] in ENDED else None

    async with stack.async_client() as client, paced_load(client, "m", per_second) as load:
        run = await until(has_ended, lambda: stack.run(run_id), seconds=180.0)
    return run, load, fewest


async def test_ops_10_every_engine_sleeps_and_wakes_under_load(stack: OperatedStack) -> None:
    run, load, fewest = await watched(stack, stack.begin(**NAP), 50.0)
    assert run["status"] == "succeeded", run
    assert load.bad == []
    assert load.good == load.sent > 500
    assert fewest >= 3
    assert stack.cordons() == []
    for name in ("e0", "e1", "e2", "e3"):
        assert stack.engine(name).get("/is_sleeping") == {"is_sleeping": False}


async def test_ops_11_weights_are_updated_in_rolling_order_under_load(stack: OperatedStack) -> None:
    params = {"weight_version": "v2", "updates": [{"names": ["a"]}, {"names": ["b"]}]}
    run_id = stack.begin(operation="rolling_weight_update", params=params, target={"model": "m"}, keep_available=3)
    run, load, fewest = await watched(stack, run_id, 50.0)
    assert run["status"] == "succeeded", run
    assert load.bad == []
    assert load.good == load.sent > 500
    assert fewest >= 3
    fleets = range(stack.gateways)
    await until(lambda: {one["weight_version"] for index in fleets for one in stack.fleet_of(index)} == {"v2"})
