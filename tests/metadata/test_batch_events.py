"""Progress of a batch as events."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from aibrix_extproc.core.batches.pace import WINDOW_SECONDS, Pace
from tests.metadata.conftest import Service
from tests.metadata.test_batches import create, line
from tests.waiting import until


async def events(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """The data of each event."""
    name = ""
    async for row in answer.aiter_lines():
        field, _, value = row.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            assert name == "batch"
            yield json.loads(value)


async def test_batch_is_followed_to_its_end(service: Service) -> None:
    client = service.openai()
    service.engine.hold.clear()
    made = await create(client, (line(str(number)) for number in range(250)))
    await until(lambda: service.engine.running > 0, "requests run")
    seen = []
    async with service.http() as http, http.stream("GET", f"/v1/batches/{made.id}/events") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for one in events(answer):
            seen.append(one)
            service.engine.hold.set()
    assert seen[0]["status"] == "in_progress"
    assert seen[-1]["status"] == "completed"
    counts = [one["request_counts"]["completed"] for one in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 250
    assert len(seen) > 2, "nothing between beginning and end"
    assert {one["id"] for one in seen} == {made.id}
    assert any(one["progress"]["requests_per_second"] for one in seen)
    assert (await client.batches.retrieve(made.id)).model_dump().items() <= seen[-1].items()


async def test_batch_that_has_ended_is_one_event(service: Service) -> None:
    client = service.openai()
    made = await client.batches.create(
        input_file_id="file-none", endpoint="/v1/chat/completions", completion_window="24h"
    )
    async with service.http() as http, http.stream("GET", f"/v1/batches/{made.id}/events") as answer:
        assert [one["status"] async for one in events(answer)] == ["failed"]


@pytest.mark.parametrize("caller", ["alice", "bob"])
async def test_unknown_and_foreign_batches_are_a_404(service: Service, caller: str) -> None:
    made = await create(service.openai("carol"), [line("a")])
    async with service.http(caller) as http:
        for batch_id in (made.id, "batch_x", "x" * 100):
            assert (await http.get(f"/v1/batches/{batch_id}/events")).status_code == 404


def test_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    pace.observe(0.0, 0)
    assert (pace.rate, pace.seconds_left(100)) == (None, None)
    for second in range(1, 101):
        pace.observe(float(second), 2 * second)
    assert pace.rate == 2.0
    assert pace.seconds_left(260) == 30.0
    for second in range(101, 101 + int(WINDOW_SECONDS) + 1):
        pace.observe(float(second), 200)
    assert (pace.rate, pace.seconds_left(260)) == (0.0, None)
