"""The API of runs: what it refuses, and who may ask for what."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.runs import RunLedger
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.metadata.engine_list import EngineList
from aibrix_extproc.app.metadata.following import Followers
from aibrix_extproc.app.metadata.run_api import RunApi
from aibrix_extproc.core.access.principal import Grants
from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import Match, Role
from aibrix_extproc.simulator.server import Simulator
from tests.metadata.engines import Engines

KEY = b"k" * 32
ADMIN = Grants(Role.ADMIN)
ALL = {"model": "sim-model"}
NAP = {"operation": "sleep", "then": [{"operation": "wake_up"}], "target": ALL}


@dataclass
class Asker:
    url: str
    http: aiohttp.ClientSession
    engines: Engines

    async def ask(
        self, method: str, path: str, body: Any = None, grants: Grants = ADMIN, **headers: str
    ) -> tuple[int, Any]:
        found = ROUTER.match(method, f"/admin/v1{path}".partition("?")[0])
        operation = found.operation.id if isinstance(found, Match) else "none"
        statement = SignedCaller("alice", "r-1", operation, int(time.time()) + 60, grants=grants)
        signed = {SIGNED_CALLER: sign(KEY, SIGNED_CALLER, statement)}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, f"{self.url}/admin/v1{path}", json=body, headers=signed | named) as answer:
            return answer.status, await answer.json()

    async def refusal(self, body: object, grants: Grants = ADMIN) -> tuple[int, str | None, str | None]:
        status, found = await self.ask("POST", "/operations", body, grants)
        error = found["error"]
        return status, error["code"], error["param"]


@pytest.fixture
async def asker(database: Database) -> AsyncIterator[Asker]:
    async with Simulator() as one, Simulator() as two, aiohttp.ClientSession() as http:
        engines = Engines((one, two))
        acts, followers = engines.acts(EngineOps(http)), Followers(look_seconds=0.02)
        api = RunApi(RunLedger(database, "api", 60.0), followers, engines, acts, os.urandom, lambda: None)
        handlers = {**api.handlers(), **EngineList(engines, acts).handlers()}
        server = ApiServer(handlers, keys=lambda: (KEY,), observe=lambda *_: None)
        port = await server.start("127.0.0.1", 0)
        yield Asker(f"http://127.0.0.1:{port}", http, engines)
        await asyncio.wait_for(server.stop(), 60)


BAD = {
    "no operation": ({"target": ALL}, 400, None, "operation"),
    "unknown operation": ({"operation": "explode", "target": ALL}, 400, "invalid_value", "operation"),
    "code in an engine": ({"operation": "collective_rpc", "target": ALL}, 400, "invalid_value", "operation"),
    "inner step of an update": ({"operation": "update_weights", "target": ALL}, 400, "invalid_value", "operation"),
    "unknown field": (NAP | {"when": 3}, 400, "invalid_value", "when"),
    "no target": ({"operation": "sleep"}, 400, None, "target"),
    "empty target": (NAP | {"target": {"labels": {}}}, 400, None, "target"),
    "unknown target": (NAP | {"target": {"zone": "a"}}, 400, "invalid_value", "target.zone"),
    "unknown model": (NAP | {"target": {"model": "nobody"}}, 404, "model_not_found", "target.model"),
    "unknown endpoint": (NAP | {"target": {"endpoints": ["10.9.9.9:1"]}}, 404, "endpoint_not_found", None),
    "label of nobody": (NAP | {"target": {"labels": {"zone": "z"}}}, 404, "no_endpoint_matches", "target"),
    "wrong level": (NAP | {"params": {"level": 9}}, 400, "integer_above_max_value", "params.level"),
    "wrong mode": (NAP | {"params": {"mode": "now"}}, 400, "invalid_value", "params.mode"),
    "wrong tag": (NAP | {"then": [{"operation": "wake_up", "params": {"tags": ["x"]}}]}, 400, None, None),
    "unknown parameter": (NAP | {"params": {"depth": 1}}, 400, "invalid_value", "params.depth"),
    "parameters that are none": (NAP | {"params": []}, 400, "invalid_type", "params"),
    "order": (NAP | {"order": "random"}, 400, "invalid_value", "order"),
    "nobody may be away": (NAP | {"max_unavailable": 0}, 400, "integer_below_min_value", "max_unavailable"),
    "text for a number": (NAP | {"keep_available": "1"}, 400, "invalid_type", "keep_available"),
    "drain for ever": (NAP | {"drain": {"seconds": 1e9}}, 400, "invalid_value", "drain.seconds"),
    "not a number": (NAP | {"timeout": float("nan")}, 400, None, None),
    "too many steps": (NAP | {"then": [{"operation": "wake_up"}] * 8}, 400, "invalid_value", "then"),
    "a sequence in a sequence": (NAP | {"then": [{"operation": "rolling_weight_update"}]}, 400, None, None),
    "weights without a version": ({"operation": "rolling_weight_update", "target": ALL}, 400, None, None),
    "a list": ([], 400, None, None),
    "the last engine": ({"operation": "sleep", "target": ALL}, 409, "last_engine", "keep_available"),
    "more than there are": (NAP | {"keep_available": 2}, 409, "last_engine", "keep_available"),
}  # fmt: skip


async def test_bad_input_asks_no_engine(asker: Asker) -> None:
    for name, (body, status, code, param) in BAD.items():
        found = await asker.refusal(body)
        assert found[0] == status, (name, found)
        assert code is None or found[1] == code, (name, found)
        assert param is None or found[2] == param, (name, found)
    assert (await asker.ask("GET", "/operations"))[1]["data"] == []


async def test_ops_15_force_of_an_administrator_takes_the_last_engine(asker: Asker) -> None:
    status, run = await asker.ask("POST", "/operations", {"operation": "sleep", "target": ALL, "force": True})
    assert (status, run["status"], len(run["endpoints"])) == (202, "queued", 2)
    operator = Grants(Role.OPERATOR, operations=("create_run", "sleep"))
    assert (await asker.refusal({"operation": "sleep", "target": ALL, "force": True}, operator))[0] == 403


async def test_operators_need_the_right_to_each_operation_and_model(asker: Asker) -> None:
    def operator(*operations: str, models: tuple[str, ...] | None = None) -> Grants:
        return Grants(Role.OPERATOR, operations=operations, models=models)

    assert (await asker.refusal(NAP, Grants(Role.USER)))[0] == 404
    assert (await asker.refusal(NAP, operator("sleep", "wake_up")))[0] == 404
    assert (await asker.refusal(NAP, operator("create_run", "sleep")))[0] == 403
    assert (await asker.refusal(NAP, operator("create_run", "sleep", "wake_up", models=("other",))))[0] == 403
    status, run = await asker.ask("POST", "/operations", NAP, operator("create_run", "sleep", "wake_up"))
    assert status == 202
    listing = operator("list_engines", models=("other",))
    assert (await asker.ask("GET", "/engines", grants=listing))[1]["data"] == []
    cancel = f"/operations/{run['id']}/cancel"
    assert (await asker.ask("POST", cancel, grants=operator("cancel_run")))[0] == 403
    assert (await asker.ask("POST", cancel, grants=operator("cancel_run", "sleep", "wake_up")))[1][
        "status"
    ] == "cancelled"


async def test_ops_17_an_idempotency_key_over_http(asker: Asker) -> None:
    first = (await asker.ask("POST", "/operations", NAP, Idempotency_Key="k"))[1]
    assert (await asker.ask("POST", "/operations", NAP, Idempotency_Key="k"))[1]["id"] == first["id"]
    assert (await asker.ask("POST", "/operations", NAP | {"order": "all"}, Idempotency_Key="k"))[0] == 409
    assert (await asker.ask("POST", "/operations", NAP, Idempotency_Key="x" * 300))[0] == 400


async def test_runs_are_listed_described_and_followed(asker: Asker) -> None:
    made = [(await asker.ask("POST", "/operations", NAP))[1]["id"] for _ in range(3)]
    page = (await asker.ask("GET", "/operations?limit=2"))[1]
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([made[2], made[1]], True)
    rest = (await asker.ask("GET", f"/operations?after={made[1]}"))[1]
    assert [one["id"] for one in rest["data"]] == [made[0]]
    assert (await asker.ask("GET", "/operations?after=op_nobody"))[0] == 404
    assert (await asker.ask("GET", "/operations/op_nobody"))[0] == 404
    assert (await asker.ask("GET", f"/operations/{made[0]}"))[1]["history"] == []
    cancelled = (await asker.ask("POST", f"/operations/{made[0]}/cancel"))[1]
    assert cancelled["counts"]["cancelled"] == 2
    assert (await asker.ask("POST", f"/operations/{made[0]}/cancel"))[1]["status"] == "cancelled"


async def test_engines_are_listed_with_how_far_they_are_drained(asker: Asker) -> None:
    asker.engines.cordons["c"] = "e1", 0.0
    asker.engines.in_flight["e1"] = 3
    first, second = (await asker.ask("GET", "/engines"))[1]["data"]
    assert (first["cordoned"], first["drain"], first["health"]) == (False, None, "ready")
    assert second["drain"] == {"complete": False, "in_flight": 3, "gateways": 1, "gateways_behind": 0}
    assert "api_key" not in second
