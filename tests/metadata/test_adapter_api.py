"""The admin interface of adapters and policies: what it stores, shows, refuses, and hides."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.metadata.adapter_api import AdapterApi
from aibrix_extproc.app.metadata.policy_api import PolicyApi
from aibrix_extproc.core.access.principal import Grants
from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS, ROUTER
from aibrix_extproc.core.openai.contract.operations import Match, Role
from aibrix_extproc.core.operations.desired import DesiredAdapter
from tests.metadata.working_engines import Engines
from tests.waiting import until

KEY = b"k" * 32
ADMIN = Grants(Role.ADMIN)
EVERY = tuple(row.id for row in OPERATIONS if row.role is Role.OPERATOR)
OPERATOR = Grants(Role.OPERATOR, operations=EVERY, models=("llama",), adapters=("sql*",))
SQL = {"path": "/adapters/sql", "base": "llama"}


@dataclass
class Rig:
    """An API server beside simulated engines."""

    url: str
    engines: Engines
    http: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None, grants: Grants = ADMIN) -> tuple[int, Any]:
        found = ROUTER.match(method, path)
        assert isinstance(found, Match)
        statement = SignedCaller("alice", "r-1", found.operation.id, int(time.time()) + 60, grants=grants)
        headers = {SIGNED_CALLER: sign(KEY, SIGNED_CALLER, statement)}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def code(self, method: str, path: str, body: Any = None, grants: Grants = ADMIN) -> tuple[int, str]:
        status, found = await self.ask(method, path, body, grants)
        return status, found["error"]["code"] or found["error"]["param"]


@pytest.fixture(params=[True])
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """The parameter: whether ModelAdapters declare adapters here."""
    database = Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    await database.open()
    async with Engines(database) as engines, aiohttp.ClientSession() as http:
        adapters = AdapterApi(
            engines.control, engines.states, lambda: engines.snapshot, database.clock, lambda: None,
            declares=request.param,
        )  # fmt: skip
        handlers = {**adapters.handlers(), **PolicyApi(engines.control, lambda: None).handlers()}
        api = ApiServer(handlers, keys=lambda: (KEY,), observe=lambda *_: None)
        yield Rig(f"http://127.0.0.1:{await api.start('127.0.0.1', 0)}", engines, http)
        await api.stop()
    await database.close()


async def test_an_adapter_is_put_followed_listed_and_deleted(rig: Rig) -> None:
    await rig.engines.start("a", "b")
    status, made = await rig.ask("PUT", "/admin/v1/adapters/team/sql", SQL)
    assert (status, made["id"], made["state"], made["replicas"]) == (200, "team/sql", "pending", "all")
    async with rig.engines.working():

        async def loaded() -> bool:
            _, found = await rig.ask("GET", "/admin/v1/adapters/team/sql")
            return (found["state"], found["loaded"], found["wanted"]) == ("loaded", 2, 2)

        await until(loaded, "it is loaded everywhere")
        _, listed = await rig.ask("GET", "/admin/v1/adapters")
        assert [one["id"] for one in listed["data"]] == ["team/sql"]
        assert {one["state"] for one in listed["data"][0]["endpoints"]} == {"loaded"}
        assert await rig.ask("PUT", "/admin/v1/adapters/team/sql", SQL) == (200, {**listed["data"][0], "version": 2})
        status, gone = await rig.ask("DELETE", "/admin/v1/adapters/team/sql")
        assert (status, gone["deleted"]) == (200, True)

        async def forgotten() -> bool:
            return (await rig.ask("GET", "/admin/v1/adapters/team/sql"))[0] == 404

        await until(forgotten, "it is unloaded everywhere")
    assert rig.engines.holders("team/sql") == set()


async def test_the_error_of_an_engine_is_shown(rig: Rig) -> None:
    await rig.engines.start("a")
    await rig.ask("PUT", "/admin/v1/adapters/bad", SQL | {"path": "/nope"})
    async with rig.engines.working():

        async def failed() -> Any:
            _, found = await rig.ask("GET", "/admin/v1/adapters/bad")
            return found if found["state"] == "failed" else None

        found = await until(failed, "the failure is shown")
    assert "No adapter found for /nope" in found["endpoints"][0]["detail"]
    assert found["endpoints"][0]["failures"] >= 1


async def test_what_is_wrong_is_refused(rig: Rig) -> None:
    one = "/admin/v1/adapters/sql"
    await rig.engines.start("a")
    await until(lambda: "llama" in rig.engines.snapshot.models, "the model is known")
    assert await rig.code("PUT", "/admin/v1/adapters/llama", SQL | {"base": "other"}) == (409, "adapter_name_taken")
    assert await rig.code("PUT", one, {"base": "llama"}) == (400, "missing_required_parameter")
    assert await rig.code("PUT", one, SQL | {"path": "/a/../b"}) == (400, "invalid_value")
    assert await rig.code("PUT", one, SQL | {"replica": 2}) == (400, "unknown_parameter")
    assert await rig.code("GET", one) == (404, "adapter_not_found")
    assert await rig.code("DELETE", one) == (404, "adapter_not_found")
    assert (await rig.ask("PUT", one, SQL))[0] == 200
    assert await rig.code("PUT", one, SQL | {"path": "/other"}) == (409, "adapter_exists")
    assert (await rig.ask("PUT", one, SQL | {"path": "/other", "replace": True}))[0] == 200
    assert await rig.code("PUT", "/admin/v1/policies/llama", {"sleep": 1}) == (400, "unknown_parameter")
    assert await rig.code("GET", "/admin/v1/policies/llama") == (404, "policy_not_found")


async def test_an_operator_sees_and_changes_its_own_only(rig: Rig) -> None:
    for name, base in (("sql", "llama"), ("sql-q", "qwen"), ("chat", "llama")):
        assert (await rig.ask("PUT", f"/admin/v1/adapters/{name}", {"path": "/a", "base": base}))[0] == 200
    _, listed = await rig.ask("GET", "/admin/v1/adapters", grants=OPERATOR)
    assert [one["id"] for one in listed["data"]] == ["sql"]
    assert await rig.code("GET", "/admin/v1/adapters/chat", grants=OPERATOR) == (404, "adapter_not_found")
    assert await rig.code("DELETE", "/admin/v1/adapters/sql-q", grants=OPERATOR) == (404, "adapter_not_found")
    assert await rig.code("PUT", "/admin/v1/adapters/new", SQL, grants=OPERATOR) == (403, "permission_denied")
    assert await rig.code("PUT", "/admin/v1/policies/qwen", {}, grants=OPERATOR) == (403, "permission_denied")
    user = Grants(Role.USER)
    assert (await rig.ask("GET", "/admin/v1/adapters", grants=user))[0] == 404


async def test_a_policy_is_put_listed_and_deleted(rig: Rig) -> None:
    fields = {"wake_on_request": True, "idle_sleep_seconds": 900}
    status, made = await rig.ask("PUT", "/admin/v1/policies/org/llama", fields)
    assert (status, made["id"], made["idle_sleep_seconds"]) == (200, "org/llama", 900)
    assert await rig.ask("GET", "/admin/v1/policies/org/llama") == (200, made)
    _, listed = await rig.ask("GET", "/admin/v1/policies")
    assert listed["data"] == [made]
    assert (await rig.ask("DELETE", "/admin/v1/policies/org/llama"))[1]["deleted"] is True
    assert (await rig.ask("GET", "/admin/v1/policies"))[1]["data"] == []


DECLARED = DesiredAdapter("sql", "/adapters/sql", "llama", source="ModelAdapter llm/sql")


async def test_an_adapter_that_an_object_declares_is_changed_there_alone(rig: Rig) -> None:
    await rig.engines.want(DECLARED)
    for method, body in (("PUT", SQL), ("PUT", SQL | {"path": "/new", "replace": True}), ("DELETE", None)):
        assert await rig.code(method, "/admin/v1/adapters/sql", body) == (409, "adapter_declared_elsewhere")
    _, found = await rig.ask("GET", "/admin/v1/adapters/sql")
    assert (found["source"], found["path"]) == ("ModelAdapter llm/sql", "/adapters/sql")


@pytest.mark.parametrize("rig", [False], indirect=True)
async def test_what_objects_have_declared_is_free_where_they_are_not_followed_any_more(rig: Rig) -> None:
    await rig.engines.want(DECLARED)
    status, found = await rig.ask("PUT", "/admin/v1/adapters/sql", SQL)
    assert (status, found["source"]) == (200, "")
    await rig.engines.want(DECLARED)
    status, _ = await rig.ask("DELETE", "/admin/v1/adapters/sql")
    assert status == 200
