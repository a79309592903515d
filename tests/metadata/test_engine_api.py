"""vLLM's operational paths over three engines: one answer, or an error with the result of each."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.adapters.engine.client import engine_session
from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.metadata.engine_api import EngineApi
from aibrix_extproc.app.metadata.engine_fleet import engine_fleet
from aibrix_extproc.core.access.principal import Grants
from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import Match, Role
from aibrix_extproc.core.operations.table import ROWS
from aibrix_extproc.settings import build
from aibrix_extproc.simulator.options import SimulatorOptions
from aibrix_extproc.simulator.server import Simulator
from tests.waiting import until

KEY = b"k" * 32
ADMIN = Grants(Role.ADMIN)
SQL = {"lora_name": "sql", "lora_path": "/adapters/sql"}
LOADED = "Success: LoRA adapter 'sql' added successfully."


@dataclass
class Rig:
    """An API server over some simulated engines."""

    url: str
    engines: list[Simulator]
    http: aiohttp.ClientSession
    told: list[str] = field(default_factory=list)
    known: Callable[[str], bool] = bool

    def address(self, number: int) -> str:
        return self.engines[number].url.removeprefix("http://")

    async def ask(
        self, method: str, path: str, body: Any = None, grants: Grants = ADMIN, **headers: str
    ) -> tuple[int, str, Any]:
        """Status, content type, and the body: decoded if it is JSON."""
        found = ROUTER.match(method, path.partition("?")[0])
        operation = found.operation.id if isinstance(found, Match) else "none"
        statement = SignedCaller("alice", "r-1", operation, int(time.time()) + 60, grants=grants)
        signed = {SIGNED_CALLER: sign(KEY, SIGNED_CALLER, statement)}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, f"{self.url}{path}", json=body, headers=signed | named) as answer:
            text = await answer.text()
            kind = answer.headers["content-type"]
            return answer.status, kind, json.loads(text) if kind == "application/json" else text

    async def error(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        status, _, found = await self.ask(method, path, body, **more)
        return status, found["error"]

    def loaded(self) -> list[list[str]]:
        return [[one.name for one in engine.engine.models.adapters] for engine in self.engines]

    def asked(self, path: str) -> list[int]:
        """How often each engine was asked this path."""
        return [sum(one.path == path for one in engine.app.recorder.recent("", None)) for engine in self.engines]


async def a_rig(stack: AsyncExitStack, *options: SimulatorOptions) -> Rig:
    engines = [await stack.enter_async_context(Simulator(one)) for one in options]
    http = await stack.enter_async_context(aiohttp.ClientSession())
    flags = {"fleet": {"endpoints": [one.url for one in engines]}} if engines else {}
    fleet = engine_fleet(build({"flag": flags}))
    rig = Rig("", engines, http)
    if fleet is not None:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        running = group.create_task(fleet.run())
        stack.callback(running.cancel)
        await until(lambda: fleet.snapshot.known)
        rig.known = lambda name: name in fleet.snapshot.models

    async def tell(endpoints: Any) -> None:
        for one in endpoints:
            rig.told.append(one.address)
            if fleet is not None:
                fleet.engines.renew(one.identity)

    client = EngineOps(await stack.enter_async_context(engine_session()))
    api = ApiServer(EngineApi(fleet, client, tell).handlers(), keys=lambda: (KEY,), observe=lambda *_: None)
    rig.url = f"http://127.0.0.1:{await api.start('127.0.0.1', 0)}"
    stack.push_async_callback(api.stop)
    return rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with AsyncExitStack() as stack:
        yield await a_rig(stack, *[SimulatorOptions(models=("llama",), server_load_tracking=True)] * 3)


async def test_adapter_is_loaded_on_all_engines_and_the_answer_is_vllms(rig: Rig) -> None:
    assert await rig.ask("POST", "/v1/load_lora_adapter", SQL) == (200, "text/plain; charset=utf-8", LOADED)
    assert rig.loaded() == [["sql"]] * 3
    assert sorted(rig.told) == sorted(rig.address(number) for number in range(3))
    await until(lambda: rig.known("sql"))
    status, error = await rig.error("POST", "/v1/load_lora_adapter", SQL)
    assert (status, error["type"]) == (400, "InvalidUserInput")  # vLLM's own words for a duplicate
    assert "has already been loaded" in error["message"]
    status, _, text = await rig.ask("POST", "/v1/unload_lora_adapter", {"lora_name": "sql"})
    assert (status, text) == (200, "Success: LoRA adapter 'sql' removed successfully.")
    assert rig.loaded() == [[]] * 3
    assert (await rig.error("POST", "/v1/unload_lora_adapter", {"lora_name": "sql"}))[0] == 404


async def test_engines_that_have_the_adapter_are_left_out_so_that_a_failed_load_can_be_sent_again(rig: Rig) -> None:
    rig.engines[1].app.faults.replace([])
    await rig.ask("POST", "/v1/load_lora_adapter", SQL, x_target_endpoints=rig.address(1))
    assert rig.loaded() == [[], ["sql"], []]
    assert (await rig.ask("POST", "/v1/load_lora_adapter", SQL))[0] == 200
    assert rig.loaded() == [["sql"]] * 3
    assert rig.asked("/v1/load_lora_adapter") == [1, 1, 1]


async def test_two_adapters_of_one_name_are_refused_before_any_engine_is_asked(rig: Rig) -> None:
    await rig.ask("POST", "/v1/load_lora_adapter", SQL, x_target_endpoints=rig.address(2))
    status, error = await rig.error("POST", "/v1/load_lora_adapter", SQL | {"lora_path": "/other"})
    assert (status, error["code"]) == (409, "adapter_conflict")
    assert rig.address(2) in error["message"]
    assert rig.loaded() == [[], [], ["sql"]]
    replaced = SQL | {"lora_path": "/other", "load_inplace": True}
    assert (await rig.ask("POST", "/v1/load_lora_adapter", replaced))[0] == 200
    assert {one.path for engine in rig.engines for one in engine.engine.models.adapters} == {"/other"}


async def test_failure_on_one_engine_is_a_partial_failure_with_each_result(rig: Rig) -> None:
    await rig.http.put(f"{rig.engines[1].url}/sim/faults", json=[
        {"fault": "status", "code": 500, "message": "no room", "path": "/v1/load_lora_adapter"},
    ])  # fmt: skip
    status, error = await rig.error("POST", "/v1/load_lora_adapter", SQL)
    assert (status, error["code"]) == (502, "partial_failure")
    assert error["endpoints"][0]["endpoint"] == rig.address(1)
    assert [one["result"] for one in error["endpoints"]] == ["failed", "done", "done"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"fault": "reset-before-headers"}, ("it reset the connection", "it closed the connection")),
        ({"fault": "malformed-json"}, ()),
        ({"fault": "html-502"}, ()),
    ],
)  # fmt: skip
async def test_engine_that_misbehaves_is_a_result_in_words(
    rig: Rig, fault: dict[str, Any], words: tuple[str, ...]
) -> None:
    await rig.http.put(f"{rig.engines[0].url}/sim/faults", json=[fault | {"path": "/sleep"}])
    status, error = await rig.error("POST", "/sleep")
    assert status in (409, 502)
    first = next(one for one in error["endpoints"] if one["endpoint"] == rig.address(0))
    assert not words or first["detail"].startswith(words)
    assert [engine.engine.halted for engine in rig.engines[1:]] == [True, True]


async def test_engine_that_went_away_is_named(rig: Rig) -> None:
    gone = rig.address(2)
    await rig.engines[2].stop()
    status, error = await rig.error("POST", "/reset_prefix_cache")
    assert (status, error["message"]) == (
        502, "/reset_prefix_cache failed on 1 of 3 engines; 'endpoints' has the result of each.",
    )  # fmt: skip
    assert error["endpoints"][0] == {"endpoint": gone, "result": "failed", "detail": "connection refused"}


async def test_sleep_and_wake_up_reach_all_engines_and_states_that_differ_are_named(rig: Rig) -> None:
    assert await rig.ask("POST", "/sleep?level=2&mode=wait") == (
        200, "application/json", {"status": "sleeping", "level": 2},
    )  # fmt: skip
    assert (await rig.ask("GET", "/is_sleeping"))[2] == {"is_sleeping": True}
    assert (await rig.ask("POST", "/wake_up", x_target_endpoints=rig.address(0)))[0] == 200
    status, error = await rig.error("GET", "/is_sleeping")
    assert (status, error["code"]) == (409, "engines_disagree")
    assert {one["answer"]["is_sleeping"] for one in error["endpoints"]} == {True, False}
    status, _, body = await rig.ask("POST", "/wake_up?tags=weights&tags=kv_cache")
    assert (status, body["status"]) == (200, "awake")


async def test_loads_of_engines_are_summed(rig: Rig) -> None:
    assert (await rig.ask("GET", "/load"))[2] == {"server_load": 0}
    assert (await rig.ask("POST", "/abort_requests", {}))[2] == {"status": "aborted", "aborted": 0}


async def test_every_operation_has_a_handler(rig: Rig) -> None:
    for row in ROWS:
        status, _, _ = await rig.ask(row.method, row.path, {} if row.method == "POST" else None)
        # Without weight transfer, and unless it is paused.
        assert status != 500 or row.path in (
            "/start_weight_update", "/finish_weight_update", "/release_kv_cache_memory",
        ), row.id  # fmt: skip
        assert sum(rig.asked(row.path)) or any(one.required for one in row.parameters) or status == 404, row.id


BAD: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/sleep?level=7", None, 400, "level"),
    ("POST", "/sleep?mode=now", None, 400, "mode"),
    ("POST", "/sleep?lvl=1", None, 400, "lvl"),
    ("POST", "/wake_up?tags=nope", None, 400, "tags"),
    ("POST", "/sleep?model=nope", None, 404, "model"),
    ("POST", "/v1/load_lora_adapter", SQL | {"lora_path": "/a/../../etc"}, 400, "lora_path"),
    ("POST", "/v1/load_lora_adapter", SQL | {"lora_path": "http://x/y"}, 400, "lora_path"),
    ("POST", "/v1/load_lora_adapter", SQL | {"lora_name": "llama"}, 400, "lora_name"),
    ("POST", "/v1/load_lora_adapter", {"lora_name": "a\0b", "lora_path": "/a"}, 400, "lora_name"),
    ("POST", "/v1/load_lora_adapter", [SQL], 400, ""),
    ("POST", "/abort_requests", {"request_ids": 7}, 400, "request_ids"),
]


async def test_bad_input_reaches_no_engine(rig: Rig) -> None:
    for method, path, body, wanted, param in BAD:
        status, error = await rig.error(method, path, body)
        assert (status, error["param"] or "") == (wanted, param), path
        assert sum(rig.asked(path.partition("?")[0])) == 0, path
    status, error = await rig.error("POST", "/sleep", x_target_endpoints="169.254.169.254:80")
    assert (status, error["code"]) == (400, "unknown_endpoint")
    assert sum(rig.asked("/sleep")) == 0


async def test_body_that_is_no_json_is_refused(rig: Rig) -> None:
    statement = SignedCaller("alice", "r-1", "load_lora_adapter", int(time.time()) + 60, grants=ADMIN)
    headers = {SIGNED_CALLER: sign(KEY, SIGNED_CALLER, statement)}
    for body in (b"{", b"\xff", b"[" * 100_000, b"x" * 1_048_577):
        async with rig.http.post(f"{rig.url}/v1/load_lora_adapter", data=io.BytesIO(body), headers=headers) as answer:
            assert answer.status in (400, 413)


async def test_operator_operates_only_the_engines_of_its_models() -> None:
    async with AsyncExitStack() as stack:
        rig = await a_rig(stack, SimulatorOptions(models=("llama",)), SimulatorOptions(models=("qwen",)))
        grants = Grants(Role.OPERATOR, operations=("sleep", "load_lora_adapter"), models=("qwen",), adapters=("s*",))
        assert (await rig.ask("POST", "/sleep", grants=grants))[0] == 200
        assert [engine.engine.halted for engine in rig.engines] == [False, True]
        assert (await rig.error("POST", "/sleep?model=llama", grants=grants))[0] == 404
        assert (await rig.error("POST", "/sleep", grants=grants, x_target_endpoints=rig.address(1)))[0] == 403
        assert (await rig.error("POST", "/v1/load_lora_adapter", SQL | {"lora_name": "x"}, grants=grants))[0] == 403
        assert (await rig.ask("POST", "/v1/load_lora_adapter", SQL, grants=grants))[0] == 200
        status, error = await rig.error("POST", "/wake_up", grants=grants)
        assert (status, error["code"]) == (404, "unknown_url")
        assert (await rig.error("POST", "/v1/load_lora_adapter", SQL, grants=Grants(Role.USER)))[0] == 404


async def test_fleet_of_two_models_asks_which_one_an_adapter_belongs_to() -> None:
    async with AsyncExitStack() as stack:
        rig = await a_rig(stack, SimulatorOptions(models=("llama",)), SimulatorOptions(models=("qwen",)))
        status, error = await rig.error("POST", "/v1/load_lora_adapter", SQL)
        assert (status, error["param"]) == (400, "model")
        assert (await rig.ask("POST", "/v1/load_lora_adapter?model=qwen", SQL))[0] == 200
        assert rig.loaded() == [[], ["sql"]]
        await until(lambda: rig.known("sql"))
        assert (await rig.ask("POST", "/v1/unload_lora_adapter", {"lora_name": "sql"}))[0] == 200


async def test_service_without_engines_says_so() -> None:
    async with AsyncExitStack() as stack:
        rig = await a_rig(stack)
        status, error = await rig.error("POST", "/sleep")
        assert (status, error["code"]) == (503, "no_fleet")


async def test_engines_key_is_used_and_never_a_clients() -> None:
    async with AsyncExitStack() as stack:
        rig = await a_rig(stack, SimulatorOptions(models=("llama",), api_keys=("engine-key",)))
        status, _, _ = await rig.ask("POST", "/v1/load_lora_adapter", SQL, authorization="Bearer client")
        assert status == 401  # the engine's answer: no key is configured
        sent = rig.engines[0].app.recorder.recent("/v1/load_lora_adapter", None)
        assert all("client" not in value for one in sent for _, value in one.headers)


async def test_concurrent_loads_of_one_name_agree_on_one_adapter(rig: Rig) -> None:
    paths = [f"/adapters/{number}" for number in range(4)]
    answers = await asyncio.gather(
        *(rig.ask("POST", "/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": path}) for path in paths)
    )
    assert sorted(status for status, _, _ in answers) == [200, 409, 409, 409]
    assert len({one.path for engine in rig.engines for one in engine.engine.models.adapters}) == 1
