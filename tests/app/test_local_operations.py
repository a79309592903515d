"""vLLM's operational interface through a real Envoy, gateway and metadata service, over three simulated engines."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.app.test_local import local
from tests.app.test_local_metadata import command
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow]
ADAPTER = {"lora_name": "sql", "lora_path": "/adapters/sql"}
ENGINES = ("--engines", "3", "--model", "llama", "--simulate=--itl-ms 5", "--api-key", "sk-user")


async def test_operations_reach_all_engines_and_are_what_conformance_expects(tmp_path: Path) -> None:
    run = tmp_path / "run"
    async with local(*ENGINES, "--run-dir", str(run)) as running:
        await running.ready()
        base_url = running.value("Base URL")
        where = ("--base-url", base_url, "--api-key", "sk-user", "--json", "found.json")
        admin = ("--admin-key-file", str(run / "admin-key"), "--lora-path", ADAPTER["lora_path"])
        code, out, _ = await command("conformance", "--select", "operations", *where, *admin, folder=tmp_path)
        cases = json.loads((tmp_path / "found.json").read_text())["cases"]
        assert (code, {one["result"] for one in cases}) == (0, {"pass"}), out
        addresses = [one["address"] for one in yaml.safe_load((run / "fleet.yaml").read_text())["endpoints"]]
        async with aiohttp.ClientSession() as http:
            asking = Asking(http, base_url.removesuffix("/v1"), (run / "admin-key").read_text().strip())
            await failure_of_one_engine_is_told(asking, addresses)
            await state_of_one_engine_is_told(asking, addresses)
            await everything_is_in_the_audit(asking)


class Asking:
    """An administrator's requests."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self.http = http
        self._url = url
        self._headers = {"authorization": f"Bearer {key}"}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.request(method, self._url + path, json=body, headers=self._headers | named) as answer:
            return answer.status, await answer.json(content_type=None)


async def failure_of_one_engine_is_told(asking: Asking, addresses: list[str]) -> None:
    fault = {"fault": "status", "code": 500, "message": "no room", "path": "/v1/load_lora_adapter"}
    await asking.http.put(f"http://{addresses[0]}/sim/faults", json=[fault])
    status, found = await asking.ask("POST", "/v1/load_lora_adapter", ADAPTER)
    assert (status, found["error"]["code"]) == (502, "partial_failure")
    assert [one["result"] for one in found["error"]["endpoints"]] == ["failed", "done", "done"]
    assert found["error"]["endpoints"][0]["endpoint"] == addresses[0]
    await asking.http.delete(f"http://{addresses[0]}/sim/faults")


async def state_of_one_engine_is_told(asking: Asking, addresses: list[str]) -> None:
    """Only the endpoint that is named sleeps, and chats go to the others."""
    assert (await asking.ask("POST", "/sleep", x_target_endpoints=addresses[1]))[0] == 200
    status, found = await asking.ask("GET", "/is_sleeping")
    assert (status, found["error"]["code"]) == (409, "engines_disagree")
    chat = {"model": "llama", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}

    async def others_answer() -> bool:
        return [(await asking.ask("POST", "/v1/chat/completions", chat))[0] for _ in range(4)] == [200] * 4

    await until(others_answer, "the gateway knows which engine sleeps")
    assert (await asking.ask("POST", "/wake_up"))[0] == 200

    async def agree() -> bool:
        return (await asking.ask("GET", "/is_sleeping")) == (200, {"is_sleeping": False})

    await until(agree, "no engine sleeps")


async def everything_is_in_the_audit(asking: Asking) -> None:
    _, listed = await asking.ask("GET", "/admin/v1/audit?limit=20")
    results = {(one["operation"], one["result"]) for one in listed["data"]}
    assert {("load_lora_adapter", "partial_failure"), ("sleep", "ok"), ("wake_up", "ok")} <= results
