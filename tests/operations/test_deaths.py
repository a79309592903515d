"""The death of the service, exact drains over two gateways, an engine that hangs, and the commands: real processes."""

import asyncio
import contextlib
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from aibrix_extproc.cli.main import main
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import running
from tests.operations.rig import OperatedStack
from tests.waiting import eventually

pytestmark = [pytest.mark.envoy]
FLEET = tuple(EngineSpec(f"e{number}", ("m",)) for number in range(2))
NAP = {
    "operation": "sleep", "params": {"mode": "wait"}, "then": [{"operation": "wake_up"}],
    "target": {"endpoints": ["e0"]},
}  # fmt: skip
MARKS = (
    "draining", "cordoned", "calling sleep", "sleep answered", "calling wake_up", "wake_up answered", "its cordon ends",
)  # fmt: skip


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedStack]:
    with ExitStack() as stacks:
        made = OperatedStack(tmp_path_factory.mktemp("operated"), FLEET)
        stacks.enter_context(running(made))
        yield made


def history(stack: OperatedStack, run_id: str) -> list[str]:
    """Read beside the service, which may be dead."""
    connection = sqlite3.connect(stack.directory / "data" / "ledger.sqlite", timeout=30.0)
    try:
        query = "SELECT text FROM operation_history WHERE run_id = ? ORDER BY number"
        return [row[0] for row in connection.execute(query, (run_id,))]
    finally:
        connection.close()


def kill_metadata(stack: OperatedStack) -> None:
    assert stack.metadata is not None
    stack.metadata.kill()


def cordoned_somewhere(stack: OperatedStack) -> bool:
    return any(one["cordon"] for index in range(stack.gateways) for one in stack.fleet_of(index))


@pytest.mark.operations
@pytest.mark.parametrize("mark", MARKS)
def test_ops_12_service_killed_at_each_step(stack: OperatedStack, mark: str) -> None:
    run_id = stack.begin(**NAP)
    eventually(lambda: any(mark in text for text in history(stack, run_id)), mark)
    kill_metadata(stack)
    stack.start_metadata()
    eventually(lambda: len(stack.engines_listed()) == 2, "the service knows the engines")
    run = stack.ended(run_id)
    assert run["status"] == "succeeded", run
    assert stack.cordons() == []
    eventually(lambda: not cordoned_somewhere(stack), "no gateway has a cordon")
    assert stack.engine("e0").get("/is_sleeping") == {"is_sleeping": False}


@pytest.mark.operations
def test_ops_12_cordon_ends_when_its_owner_is_gone_for_good(stack: OperatedStack) -> None:
    run_id = stack.begin(**NAP)
    eventually(lambda: "cordoned" in history(stack, run_id) and cordoned_somewhere(stack))
    kill_metadata(stack)
    eventually(lambda: not cordoned_somewhere(stack), "cordons have ended by themselves", seconds=60.0)
    stack.start_metadata()
    eventually(lambda: len(stack.engines_listed()) == 2, "the service knows the engines")
    assert stack.ended(run_id)["status"] == "succeeded"
    assert stack.cordons() == []


async def test_drain_waits_for_the_streams_of_both_gateways(stack: OperatedStack) -> None:
    """Slow streams are placed by both; the engine is called after the last one has ended, and none is cut."""
    headers = {"x-sim-itl-ms": "150", "x-sim-tokens": "30"}

    async def stream(number: int) -> str:
        async with stack.async_client() as client:
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": str(number)}], stream=True, extra_headers=headers,
                max_tokens=30,
            )  # fmt: skip
            reasons = [chunk.choices[0].finish_reason async for chunk in answer if chunk.choices]
            return str(reasons[-1])

    async with asyncio.TaskGroup() as tasks:
        running_now = [tasks.create_task(stream(number)) for number in range(8)]
        await asyncio.to_thread(eventually, lambda: stack.engine("e0").stats()["running"] >= 2)
        run_id = await asyncio.to_thread(lambda: stack.begin(**NAP))
        await asyncio.to_thread(eventually, lambda: "cordoned" in history(stack, run_id))
        assert not any("calling sleep" in text for text in history(stack, run_id))
    assert [task.result() for task in running_now] == ["stop"] * 8
    run = await asyncio.to_thread(stack.ended, run_id)
    assert run["status"] == "succeeded"
    assert any(text.startswith("drained; ") for text in history(stack, run_id))


def test_ops_15_16_17_refusals(stack: OperatedStack) -> None:
    everything = {"operation": "sleep", "target": {"model": "m"}}
    status, body = stack.operate("POST", "/operations", everything)
    assert (status, body["error"]["code"]) == (409, "last_engine")
    nap = NAP | {"keep_available": 2}
    assert stack.operate("POST", "/operations", nap)[0] == 409
    answer = stack.send("POST", "/admin/v1/operations", json.dumps(NAP).encode(), {"content-type": "application/json"})
    unknown = stack.send("POST", "/admin/v1/nothing", b"{}", {"content-type": "application/json"})
    assert (answer.status, unknown.status) == (404, 404)
    assert answer.body == unknown.body.replace(b"/nothing", b"/operations")
    reset = {"operation": "reset_prefix_cache", "target": {"model": "m"}}
    first = stack.operate("POST", "/operations", reset, Idempotency_Key="k1")[1]
    assert stack.operate("POST", "/operations", reset, Idempotency_Key="k1")[1]["id"] == first["id"]
    assert stack.operate("POST", "/operations", NAP, Idempotency_Key="k1")[0] == 409
    assert stack.ended(first["id"])["status"] == "succeeded"


def command(stack: OperatedStack, *words: str) -> tuple[int, str, str]:
    """The command in this process: a process of its own takes seconds to import the SDK."""
    out, err = io.StringIO(), io.StringIO()
    options = ["--base-url", stack.base_url, "--api-key-file", str(stack.directory / "admin-key")]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*words, *options])
    return code, out.getvalue(), err.getvalue()


def test_commands(stack: OperatedStack) -> None:
    address = stack.engine("e0").address
    code, out, _ = command(stack, "engines", "list")
    assert (code, out.splitlines()[0].split()) == (0, ["endpoint", "state", "name", "models", "weights", "detail"])
    assert f"{address}  ready" in out
    code, out, err = command(stack, "engines", "sleep", "e0", "--then-wake", "--json")
    assert code == 0, err
    run = json.loads(out)
    assert run["status"] == "succeeded"
    assert f"{run['id']} succeeded" in err
    assert command(stack, "operations", "show", run["id"])[1].count("calling sleep") == 1
    assert run["id"] in command(stack, "operations", "list")[1]
    code, _, err = command(stack, "engines", "drain", address, "--reason", "test")
    assert (code, "is drained" in err) == (0, True), err
    assert "cordoned, ready" in command(stack, "engines", "show", "e0")[1]
    assert command(stack, "engines", "uncordon", "e0")[0] == 0
    code, _, err = command(stack, "engines", "sleep", "--model", "m")
    assert (code, "would be left" in err) == (1, True)
    assert command(stack, "engines", "sleep")[0] == 2
    code, out, err = command(stack, "engines", "update-weights", "e0", "--version", "v7")
    assert code == 0, err
    eventually(lambda: "v7" in command(stack, "engines", "list")[1])


def test_a_hanging_engine_fails_its_step_and_nothing_else(stack: OperatedStack) -> None:
    stack.engine("e1").fail("stall", path="/sleep")
    try:
        run_id = stack.begin(**(NAP | {"target": {"model": "m"}, "call_timeout": 2}))
        run = stack.ended(run_id)
    finally:
        stack.engine("e1").recover()
    phases = {one["name"]: one["phase"] for one in run["endpoints"]}
    assert run["status"] == "failed"
    assert phases["e0"] in ("done", "cancelled")  # whichever of both was first
    assert stack.engine("e0").get("/is_sleeping") == {"is_sleeping": False}
    assert phases["e1"] in ("rolled_back", "failed")
    assert stack.cordons() == []
