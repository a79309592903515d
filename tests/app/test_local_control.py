"""Control through a real Envoy, two gateway processes and a metadata service, as `local` starts them."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from aibrix_extproc.core.access.holders import digest_of
from tests import warm
from tests.app.test_local import RunningLocal, child_like, local
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow]
CORDONS, CALLERS, KEYS = (f"/admin/v1/{name}" for name in ("cordons", "callers", "keys"))
USER = "sk-alice"
CLOSED = ("--api-key", USER)


class Site:
    """What a test asks: the API as administrator or as nobody, and the admin pages of both gateways."""

    def __init__(self, running: RunningLocal) -> None:
        self.root = running.value("Base URL").removesuffix("/v1")
        self.admin_key = Path(running.value("Admin key").removeprefix("in ")).read_text().strip()
        self.gateways = re.findall(r"http://\S+", running.value("Gateway admin"))
        assert len(self.gateways) == 2
        self.http = httpx2.AsyncClient(timeout=60.0)

    async def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> httpx2.Response:
        headers = {"authorization": f"Bearer {self.admin_key if key is None else key}"}
        return await self.http.request(method, self.root + path, json=body, headers=headers)

    async def pages(self, path: str) -> list[dict[str, Any]]:
        return [(await self.http.get(url + path)).json() for url in self.gateways]

    async def chats(self, number: int) -> list[int]:
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        answers = await asyncio.gather(*(self.ask("POST", "/v1/chat/completions", body, USER) for _ in range(number)))
        return [one.status_code for one in answers]

    async def statuses(self, key: str) -> set[int]:
        """Of so many requests that both gateways get some."""
        return {(await self.ask("GET", "/v1/models", key=key)).status_code for _ in range(12)}

    async def are_known(self, keys: int) -> None:
        async def known() -> bool:
            return [page["keys"]["of_api"] for page in await self.pages("/readyz")] == [keys] * 2

        await until(known, f"both gateways have {keys} keys of the API")

    async def endpoints(self) -> list[list[dict[str, Any]]]:
        return [page["endpoints"] for page in await self.pages("/fleet")]

    async def cordoned(self) -> list[list[str]]:
        return [[one["address"] for one in found if one["cordon"]] for found in await self.endpoints()]

    async def are_cordoned(self, *addresses: str) -> None:
        async def applied() -> bool:
            return await self.cordoned() == [sorted(addresses)] * 2

        await until(applied, f"both gateways have cordoned {addresses}")


async def test_control_state_of_a_site(tmp_path: Path) -> None:
    async with local("--engines", "2", "--workers", "2", "--simulate", "--itl-ms 200", *CLOSED) as running:
        await running.ready()
        site = Site(running)
        first, second = sorted(one["address"] for one in (await site.endpoints())[0])
        await strangers_see_nothing(site)
        await cordoned_endpoint_gets_nothing_new_and_ends_what_it_has(site, first, second)
        key = await key_is_good_from_its_creation_to_its_revocation(site)
        await command_line_manages_keys(site, tmp_path)
        await service_that_dies_changes_nothing_and_is_followed_again(running, site, first, key)
        assert await running.stop(signal.SIGTERM) == 0
        await site.http.aclose()


async def strangers_see_nothing(site: Site) -> None:
    for method, path in (("POST", CORDONS), ("GET", CORDONS), ("DELETE", f"{CORDONS}/x"), ("GET", "/admin/v1/audit")):
        found, unknown = await site.ask(method, path, key=USER), await site.ask(method, "/admin/v1/unknown", key=USER)
        assert found.status_code == unknown.status_code == 404
        assert found.content.replace(path.encode(), b"/admin/v1/unknown") == unknown.content
        for name in found.headers.keys() ^ unknown.headers.keys():
            raise AssertionError(name)
    forged = {"x-aibrix-signed-caller": "x.y", "authorization": f"Bearer {site.admin_key}"}
    assert (await site.http.get(f"{site.root}/internal/control/v1/feed", headers=forged)).status_code == 404
    assert (await site.http.post(f"{site.root}/internal/control/v1/feed", headers=forged)).status_code == 404


async def cordoned_endpoint_gets_nothing_new_and_ends_what_it_has(site: Site, first: str, second: str) -> None:
    body = {
        "model": "sim-chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20, "stream": True,
    }  # fmt: skip
    streams = [asyncio.create_task(site.ask("POST", "/v1/chat/completions", body, USER)) for _ in range(8)]

    async def busy() -> bool:
        return all(sum(one["in_flight"] for one in found) for found in await site.endpoints())

    await until(busy, "both gateways have streams")
    made = await site.ask("POST", CORDONS, {"endpoint": first, "reason": "disk"})
    assert made.status_code == 200
    await site.are_cordoned(first)
    assert {one["cordon"] for found in await site.endpoints() for one in found if one["address"] == first} == {"disk"}
    before = await in_flight(site, first)
    assert await site.chats(6) == [200] * 6
    assert await in_flight(site, first) <= before
    for answer in await asyncio.gather(*streams):
        assert answer.status_code == 200
        assert answer.text.rstrip().endswith("data: [DONE]")
    # The other one, too: nobody is left.
    assert (await site.ask("POST", CORDONS, {"endpoint": second, "expires_in": 2})).status_code == 200
    await site.are_cordoned(first, second)
    assert await site.chats(1) == [503]
    await site.are_cordoned(first)  # at the end of its time
    assert await site.chats(2) == [200] * 2
    listed = (await site.ask("GET", CORDONS)).json()
    assert [(one["endpoint"], one["by"]) for one in listed["data"]] == [(first, "local-admin")]
    assert (await site.ask("DELETE", f"{CORDONS}/{made.json()['id']}")).status_code == 200
    await site.are_cordoned()
    audit = (await site.ask("GET", "/admin/v1/audit")).json()["data"]
    assert [(one["operation"], one["result"]) for one in audit] == [
        ("delete_cordon", "ok"),
        ("create_cordon", "ok"),
        ("create_cordon", "ok"),
    ]
    for wrong in ({}, {"pod": "a", "endpoint": "b"}, {"selector": "("}, {"pod": 1}, {"pods": "a"}, {"pod": "\n"}):
        refused = await site.ask("POST", CORDONS, wrong)
        assert refused.status_code == 400, wrong
        assert json.loads(refused.content)["error"]["type"] == "invalid_request_error"


async def key_is_good_from_its_creation_to_its_revocation(site: Site) -> str:
    """KEY-01. Returns a key that stays."""
    assert (await site.ask("POST", CALLERS, {"name": "team", "models": ["sim-*"]})).status_code == 200
    first = (await site.ask("POST", KEYS, {"caller": "team"})).json()
    await site.are_known(1)
    assert await site.statuses(first["key"]) == {200}
    second = (await site.ask("POST", f"{KEYS}/{first['id']}/rotate", {"overlap_seconds": 3600})).json()
    await site.are_known(2)
    assert await site.statuses(first["key"]) == await site.statuses(second["key"]) == {200}
    assert (await site.ask("DELETE", f"{KEYS}/{first['id']}")).status_code == 200
    await site.are_known(1)
    assert await site.statuses(first["key"]) == {401}
    assert (await site.ask("POST", f"{CALLERS}/team", {"models": ["other"]})).status_code == 200

    async def sees_nothing() -> bool:
        listed = [await site.ask("GET", "/v1/models", key=second["key"]) for _ in range(4)]
        return all(one.json()["data"] == [] for one in listed)

    await until(sees_nothing, "both gateways know the caller's models")
    assert (await site.ask("POST", f"{CALLERS}/team", {"models": None})).status_code == 200
    key: str = second["key"]
    return key


async def command_line_manages_keys(site: Site, folder: Path) -> None:
    """The commands find the administrator's key by themselves."""
    key = (await keys(site, "new", "--caller", "cli", "--models", "sim-*", "--note", "n"))[0]
    assert key.startswith("sk-")
    listed = {line.split()[0]: line.split()[1] for line in await keys(site, "list")}
    rotated = (await keys(site, "rotate", listed["cli"], "--overlap", "0h"))[0]
    await site.are_known(3)
    assert await site.statuses(key) == {401}
    assert await site.statuses(rotated) == {200}
    elsewhere = digest_of("sk-elsewhere").hex()
    records = folder / "litellm.jsonl"
    records.write_text(json.dumps({"token": elsewhere, "user_id": "u", "rpm_limit": 100}) + "\n")
    dry = await keys(site, "import", "--from", "litellm-db", "--dry-run", str(records))
    assert dry[-1] == "Nothing was changed: 1 callers, 1 keys, 1 limits would be made."
    for there in (0, 3):
        made = await keys(site, "import", "--from", "litellm-db", str(records))
        assert made[-1] == f"1 callers, 1 keys, 1 limits; {there} were there already and stay as they are."
    await site.are_known(4)
    assert await site.statuses("sk-elsewhere") == {200}
    await keys(site, "revoke", f"k_{elsewhere[:16]}")
    await site.are_known(3)
    assert await site.statuses("sk-elsewhere") == {401}


async def keys(site: Site, *words: str) -> list[str]:
    """Lines that the command prints."""
    command = warm.command("aibrix_extproc", "keys", *words, "--base-url", f"{site.root}/v1")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors
    return said.decode().splitlines()


async def in_flight(site: Site, address: str) -> int:
    return sum(one["in_flight"] for found in await site.endpoints() for one in found if one["address"] == address)


async def service_that_dies_changes_nothing_and_is_followed_again(
    running: RunningLocal, site: Site, first: str, key: str
) -> None:
    assert (await site.ask("POST", CORDONS, {"endpoint": first})).status_code == 200
    await site.are_cordoned(first)
    child_pid = child_like(running, " metadata ")
    os.kill(child_pid, signal.SIGKILL)

    async def degraded() -> bool:
        return all(not page["control_feed"]["ok"] for page in await site.pages("/readyz"))

    await until(degraded, "both gateways say that the service is away")
    assert await site.cordoned() == [[first]] * 2
    assert await site.statuses(key) == {200}, "the last good keys are in force"
    assert await site.chats(2) == [200] * 2

    async def follows() -> bool:
        pages = await site.pages("/readyz")
        return all(page["control_feed"]["ok"] and page["ready"] for page in pages)

    await until(follows, "both gateways follow it again")
    cordon = (await site.ask("GET", CORDONS)).json()["data"][0]["id"]
    assert (await site.ask("DELETE", f"{CORDONS}/{cordon}")).status_code == 200
    await site.are_cordoned()
