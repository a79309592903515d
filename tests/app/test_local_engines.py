"""Adapters, sleep and wake through a real Envoy, two gateways and a metadata service, as `local` starts them."""

import asyncio
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.app.test_local import RunningLocal, children_of, local
from tests.app.test_local_control import Site
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow]
ADAPTER = "/admin/v1/adapters/sql"
CHAT = "/v1/chat/completions"


async def asked(site: Site, model: str, **more: Any) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2, **more}
    return (await site.ask("POST", CHAT, body, "any")).status_code


async def addresses(site: Site) -> list[str]:
    return sorted(one["address"] for one in (await site.endpoints())[0])


async def test_engines_of_a_site(tmp_path: Path) -> None:
    async with local("--engines", "3", "--workers", "2", "--simulate", "--itl-ms 30") as running:
        await running.ready()
        site = Site(running)
        await strangers_learn_nothing(site)
        await one_call_loads_an_adapter_everywhere(site)
        await restarted_engine_serves_it_again_without_a_word(running, site)
        await unload_lets_a_stream_finish(site)
        await commands_do_the_same(running, site, tmp_path)
        await twenty_requests_wake_a_model_once(site)
        assert await running.stop(signal.SIGTERM) == 0
        await site.http.aclose()


async def strangers_learn_nothing(site: Site) -> None:
    for method, path in (("PUT", ADAPTER), ("GET", ADAPTER), ("DELETE", ADAPTER), ("PUT", "/admin/v1/policies/m")):
        found = await site.ask(method, path, {"path": "/a", "base": "sim-chat"}, key="any")
        unknown = await site.ask(method, "/admin/v1/unknown", {}, key="any")
        assert found.status_code == unknown.status_code == 404
        assert found.content.replace(path.encode(), b"/admin/v1/unknown") == unknown.content
    wake = f"{site.root}/internal/control/v1/wake"
    assert (await site.http.post(wake, content=b'{"models":["sim-chat"]}')).status_code == 404


async def one_call_loads_an_adapter_everywhere(site: Site) -> None:
    assert await asked(site, "sql") == 404
    made = await site.ask("PUT", ADAPTER, {"path": "/adapters/sql", "base": "sim-chat"})
    assert made.status_code == 200, made.text
    await is_loaded(site, 3)
    await until(lambda: _served(site, 3), "both gateways know it")
    assert Counter(await asyncio.gather(*(asked(site, "sql") for _ in range(12)))) == {200: 12}


async def is_loaded(site: Site, number: int) -> None:
    async def loaded() -> bool:
        found = (await site.ask("GET", ADAPTER)).json()
        return bool((found["state"], found["loaded"]) == ("loaded", number))

    await until(loaded, "it is loaded")


async def _served(site: Site, number: int) -> bool:
    counts = [sum("sql" in one["models"] for one in found) for found in await site.endpoints()]
    return counts == [number] * 2


async def restarted_engine_serves_it_again_without_a_word(running: RunningLocal, site: Site) -> None:
    engines = [pid for pid, command in children_of(running.process.pid).items() if " simulate " in command]
    assert len(engines) == 3
    statuses: Counter[int] = Counter()
    ended = asyncio.Event()

    async def ask_on() -> None:
        while not ended.is_set():
            statuses[await asked(site, "sql")] += 1
            await asyncio.sleep(0.05)

    asking = [asyncio.create_task(ask_on()) for _ in range(4)]
    os.kill(running.process.pid, signal.SIGSTOP)  # a fork is back before anybody has noticed its end
    try:
        os.kill(engines[0], signal.SIGKILL)
        await until(lambda: _away(site), "its end is noticed")
    finally:
        os.kill(running.process.pid, signal.SIGCONT)
    await until(lambda: _served(site, 3), "all three serve it again")
    await is_loaded(site, 3)
    ended.set()
    await asyncio.gather(*asking)
    assert statuses.keys() == {200}, statuses


async def _away(site: Site) -> bool:
    return all(any(one["health"] != "ready" for one in found) for found in await site.endpoints())


async def unload_lets_a_stream_finish(site: Site) -> None:
    body = {
        "model": "sql", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 60, "stream": True,
        "ignore_eos": True,
    }  # fmt: skip
    streams = [asyncio.create_task(site.ask("POST", CHAT, body, "any")) for _ in range(4)]

    async def busy() -> bool:
        return bool(sum(one["in_flight"] for found in await site.endpoints() for one in found) >= 4)

    await until(busy, "the streams run")
    assert (await site.ask("DELETE", ADAPTER)).status_code == 200

    async def gone() -> bool:
        return (await site.ask("GET", ADAPTER)).status_code == 404

    await until(gone, "it is unloaded")
    assert await asked(site, "sql") == 404
    for answer in await asyncio.gather(*streams):
        assert answer.text.rstrip().endswith("data: [DONE]")


async def commands_do_the_same(running: RunningLocal, site: Site, folder: Path) -> None:
    key = folder / "key"
    key.write_text(site.admin_key)
    where = ("--base-url", f"{site.root}/v1", "--api-key-file", str(key))

    async def command(*words: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *warm.command("aibrix_extproc", "adapters", *words, *where), stdout=-1, stderr=-1
        )
        output, errors = await process.communicate()
        assert process.returncode is not None
        return process.returncode, (output + errors).decode()

    assert (await command("load", "sql", "/adapters/sql", "--base", "sim-chat"))[0] == 0
    code, text = await command("show", "sql", "--json")
    assert (code, json.loads(text)["loaded"]) == (0, 3)
    assert "sql" in (await command("list"))[1]
    code, text = await command("load", "bad", "/nope", "--base", "sim-chat")
    assert code == 1
    assert "No adapter found for /nope" in text
    code, text = await command("load", "sql", "/other", "--base", "sim-chat")
    assert code == 1
    assert "replace" in text
    wanted = folder / "adapters.json"
    wanted.write_text(json.dumps({"adapters": [{"name": "chat", "path": "/c", "base": "sim-chat", "replicas": 2}]}))
    code, text = await command("sync", str(wanted), "--prune")
    assert code == 0, text
    assert "1 changed, 2 removed" in text
    assert (await command("unload", "chat"))[0] == 0
    assert (await command("show", "chat"))[0] == 1
    assert (await command("load", "x", "/x", "--base", "m", "--placement", "gpu"))[0] == 2


async def versions(site: Site) -> list[int]:
    return [page["control_feed"]["version"] for page in await site.pages("/readyz")]


async def twenty_requests_wake_a_model_once(site: Site) -> None:
    policy = {"wake_on_request": True}
    before = max(await versions(site))
    assert (await site.ask("PUT", "/admin/v1/policies/sim-chat", policy)).status_code == 200

    async def known() -> bool:
        return min(await versions(site)) > before

    await until(known, "both gateways know the policy")
    assert (await site.ask("POST", "/sleep?level=1&mode=wait")).status_code == 200

    async def all_asleep() -> bool:
        return all(one["health"] == "asleep" for found in await site.endpoints() for one in found)

    await until(all_asleep, "both gateways know that they sleep")
    assert await asyncio.gather(*(asked(site, "sim-chat") for _ in range(20))) == [200] * 20
    woken = []
    for address in await addresses(site):
        found = (await site.http.get(f"http://{address}/sim/requests?path=/wake_up&body=0")).json()["requests"]
        woken.append(len(found))
    assert sorted(woken) == [0, 0, 1]
