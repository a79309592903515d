"""What tests do with the cluster: requests, engines, and waiting for what must come about."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.cluster.conftest import GATEWAY, NAMESPACE, Cluster, an_engine
from tests.cluster.node import PodLife
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the Gateway."""

    status: int
    headers: dict[str, str]
    body: Any  # decoded JSON; text where it is none
    seconds: float

    @property
    def code(self) -> str:
        """The error's."""
        return str(self.body["error"]["code"])


async def ask(cluster: Cluster, model: str, **headers: str) -> Answer:
    """A short chat."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    started = time.monotonic()
    async with cluster.session.post(f"{GATEWAY}/v1/chat/completions", json=body, headers=headers) as answer:
        try:
            content = await answer.json()
        except aiohttp.ContentTypeError:
            content = await answer.text()
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, found, content, time.monotonic() - started)


async def seconds_until(condition: Callable[[], Awaitable[bool]], seconds: float = 15.0) -> float:
    """Wait for it; how long that took."""
    started = time.monotonic()
    await until(condition, seconds=seconds)
    return time.monotonic() - started


async def until_answered(cluster: Cluster, model: str, seconds: float = 15.0) -> float:
    """Wait for the model to answer; the time it did."""

    async def answers() -> bool:
        return (await ask(cluster, model)).status == 200

    await until(answers, seconds=seconds)
    return time.monotonic()


async def known_to_envoy(cluster: Cluster) -> dict[str, str]:
    """The engines' addresses that Envoy has, and what it thinks of their health."""
    async with cluster.session.get("http://127.0.0.1:19000/clusters") as answer:
        lines = (await answer.text()).splitlines()
    words = [line.split("::") for line in lines if "/aibrix-extproc/rule/0::10.244." in line]
    return {address: value for _, address, name, value in words if name == "health_flags"}


async def served(cluster: Cluster, life: PodLife) -> int:
    """How many chats an engine was asked for; the fleet's polling does not POST."""
    async with cluster.session.get(f"http://{life.ip}:8000/sim/requests?path=/v1/chat") as answer:
        return sum(one["method"] == "POST" for one in (await answer.json())["requests"])


@asynccontextmanager
async def engine(
    cluster: Cluster, name: str, model: str, *arguments: str, ready: bool = True, label: str = ""
) -> AsyncIterator[PodLife]:
    """A pod with an engine, answering through the Gateway unless it is kept from being ready."""
    if not ready:
        cluster.node.held.add(name)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    await cluster.admin.ask("POST", path, an_engine(name, model, *arguments, label=label))
    try:
        await until(lambda: any(life.name == name for life in cluster.node.lives.values()))
        life = cluster.node.life(name)
        if ready:
            await until(lambda: life.ready is True, seconds=30)
            await until_answered(cluster, model)
        yield life
    finally:
        cluster.node.held.discard(name)
        await cluster.admin.ask("DELETE", f"{path}/{name}", allowed=(404,))
        await until(lambda: life.gone, seconds=30)
