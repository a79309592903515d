"""The processors of the cluster: how Envoy sees them, and times without any."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.conftest import Cluster
from tests.cluster.node import PodLife
from tests.waiting import until


def processors(cluster: Cluster) -> list[PodLife]:
    return [life for life in cluster.node.lives.values() if life.app == "aibrix-extproc"]


async def stat(cluster: Cluster, name: str) -> int:
    """One of Envoy's numbers about the processors of the Gateway's policy, which all paths but those of uploads use."""
    async with cluster.session.get(f"http://127.0.0.1:19000/stats?filter={name}") as answer:
        lines = (await answer.text()).splitlines()
    (number,) = [line.rpartition(": ")[2] for line in lines if "/aibrix-extproc/extproc/" in line]
    return int(number)


async def until_two_are_used(cluster: Cluster) -> None:
    """Both are ready, and Envoy knows it."""

    async def used() -> bool:
        return await stat(cluster, "membership_healthy") == 2

    await until(lambda: [life.ready for life in processors(cluster)] == [True, True], seconds=60)
    await until(used, seconds=90)


async def until_checked(cluster: Cluster) -> None:
    """Envoy asks for health four times a second, and has nothing left to tell its threads.

    It began without traffic, so it first waits for a minute; and what changes within a second of another change it
    tells its threads at the end of that second only.
    """
    began, before = time.monotonic(), await stat(cluster, "health_check.attempt")

    async def checked() -> bool:
        return await stat(cluster, "health_check.attempt") >= before + 8

    await until(checked, seconds=90)
    await asyncio.sleep(max(0.0, began + 1.5 - time.monotonic()))


async def in_flight(cluster: Cluster, life: PodLife) -> float:
    """How many exchanges a processor has now."""
    async with cluster.session.get(f"http://{life.ip}:9003/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("aibrix_extproc_in_flight{"))


@asynccontextmanager
async def no_processors(cluster: Cluster) -> AsyncIterator[None]:
    """All are dead until the end of the block; others have taken their place after it."""
    gone = processors(cluster)
    for life in gone:
        life.restarts = False
        life.kill()
    try:
        yield
    finally:
        for life in gone:
            await cluster.admin.ask("DELETE", life.path)
        await until_two_are_used(cluster)
