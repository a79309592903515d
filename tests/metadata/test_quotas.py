"""How much one caller may store and have unfinished. Another caller's does not count, and what has ended makes room."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import openai
import pytest

from aibrix_extproc.adapters.telemetry.registry import MetricRegistry
from aibrix_extproc.app.metadata.metrics import METADATA_METRICS
from aibrix_extproc.core.batches.fairness import SHARDS_OF_A_KIND
from tests.metadata.conftest import Service
from tests.metadata.test_batches import create, line
from tests.waiting import until

MIB = 1024 * 1024
MOST = 20  # as the fixture has it


async def outcomes(asked: int, make: Callable[[], Awaitable[object]]) -> tuple[int, set[str | None]]:
    """How many were made, and the codes of the refusals."""
    made = await asyncio.gather(*(make() for _ in range(asked)), return_exceptions=True)
    refused = [one for one in made if isinstance(one, BaseException)]
    assert all(isinstance(one, openai.RateLimitError) for one in refused), refused
    return asked - len(refused), {one.code for one in refused if isinstance(one, openai.APIError)}


def used(service: Service, bound: str) -> float | None:
    """What the sweeper reports."""
    registry = MetricRegistry(METADATA_METRICS)
    service.sweeper.register(registry)
    return registry.registry.get_sample_value("aibrix_metadata_quota_used", {"bound": bound})


async def test_caller_has_only_so_many_pending_uploads_even_if_it_creates_them_at_once(service: Service) -> None:
    kind = {"bytes": 1, "filename": "a", "mime_type": "text/plain", "purpose": "user_data"}
    alice, bob = service.openai().uploads, service.openai("bob").uploads
    first = await alice.create(**kind)
    assert await outcomes(MOST + 4, partial(alice.create, **kind)) == (MOST - 1, {"too_many_uploads"})
    await bob.create(**kind)
    await service.sweeper.sweep()
    assert used(service, "uploads") == 1.0
    await alice.cancel(first.id)
    assert await outcomes(2, partial(alice.create, **kind)) == (1, {"too_many_uploads"})
    service.clock.offset = 3601.0
    await alice.create(**kind)


async def test_caller_has_only_so_many_unfinished_batches_even_if_it_creates_them_at_once(service: Service) -> None:
    """What is cancelled before it runs does not wait for what runs."""
    alice, bob = service.openai(), service.openai("bob")
    service.engine.hold.clear()
    first = await create(alice, [line("a")])
    again = partial(
        alice.batches.create, input_file_id=first.input_file_id, endpoint=first.endpoint, completion_window="24h"
    )
    assert await outcomes(MOST + 4, again) == (MOST - 1, {"too_many_batches"})
    await create(bob, [line("b")])
    await service.sweeper.sweep()
    assert (used(service, "batches"), used(service, "uploads")) == (1.0, 0.0)
    more_than_run = (await alice.batches.list(limit=SHARDS_OF_A_KIND + 1)).data
    for one in more_than_run:
        await alice.batches.cancel(one.id)

    async def cancelled() -> bool:
        return "cancelled" in {one.status async for one in alice.batches.list()}

    await until(cancelled)
    await again()


async def test_pending_uploads_count_towards_the_quota_of_bytes(service: Service) -> None:
    client = service.openai().uploads
    make = partial(client.create, filename="a", mime_type="text/plain", purpose="user_data")
    first = await make(bytes=40 * MIB)
    with pytest.raises(openai.BadRequestError) as caught:
        await make(bytes=25 * MIB)
    assert caught.value.code == "storage_quota_exceeded"
    await client.cancel(first.id)
    await make(bytes=25 * MIB)
