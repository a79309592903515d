"""Usage records from a gateway's part to a metadata service that answers, does not, or is somebody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.adapters.internal_api.client import InternalClient, MessageRefusedError, UnavailableError
from aibrix_extproc.adapters.openai_http.internal import InternalReply, InternalRoute, InternalRoutes
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.parts.usage import UsageReporter
from aibrix_extproc.core.access.signed_message import SIGNATURE, sign_message
from aibrix_extproc.core.access.usage import KIND, PATH, records_in
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.openai.wire.estimates import InputRatios
from aibrix_extproc.settings.usage import UsageSettings
from tests.metadata.conftest import Clock
from tests.waiting import until

KEY, OTHER = b"k" * 32, b"o" * 32


class Service:
    """A metadata service that remembers what it got; `status` is what it answers."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.status = 200
        self.port = 0
        self.clock = Clock()
        route = InternalRoute(KIND, self.take)
        internal = InternalRoutes({PATH: route}, lambda: (KEY,), self.clock)
        self.api = ApiServer({}, keys=lambda: (KEY,), observe=lambda *_: None, internal=internal)

    async def take(self, _: str, content: bytes) -> InternalReply:
        if self.status == 200:
            self.batches.append([record.id for record in records_in(content)])
        return InternalReply(status=self.status)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ids(self) -> list[str]:
        return [one for batch in self.batches for one in batch]


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    made.port = await made.api.start("127.0.0.1", 0)
    yield made
    await made.api.stop()


def a_charge(number: int) -> Charge:
    return Charge(
        request_id="r", operation="chat_completion", model="m", caller="me", exchange_id=f"0a-{number}",
        wall_placed_at=1_800_000_000, status=200,
    )  # fmt: skip


@asynccontextmanager
async def running(reporter: UsageReporter) -> AsyncIterator[UsageReporter]:
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def a_reporter(service: Service, key: bytes = KEY, **settings: Any) -> UsageReporter:
    client = InternalClient(service.url, "replica", lambda: (key,))
    return UsageReporter(UsageSettings(**settings), client, InputRatios())


async def test_end_of_the_process_sends_what_waits(service: Service) -> None:
    async with running(a_reporter(service)) as reporter:
        for number in range(1200):
            reporter.take(a_charge(number))
        await until(lambda: len(service.batches) > 1)
        reporter.take(a_charge(1200))
    assert service.ids == [f"0a-{number}" for number in range(1201)]


async def test_service_that_is_away_gets_all_afterwards(service: Service) -> None:
    service.status = 503
    async with running(a_reporter(service)) as reporter:
        reporter.take(a_charge(1))
        await until(lambda: reporter.degraded)
        assert (reporter.report()["waiting"], reporter.report()["ok"]) == (1, False)
        service.status = 200
        await until(lambda: not reporter.degraded)
    assert service.ids == ["0a-1"]


async def test_spool_that_is_full_loses_and_counts(service: Service) -> None:
    service.status = 503
    reporter = a_reporter(service, buffer_bytes=64 * 1024)
    for number in range(1000):
        reporter.take(a_charge(number))
    report = reporter.report()
    assert report["waiting"] + report["lost"] == 1000  # type: ignore[operator]
    assert 0 < report["lost"] < 1000  # type: ignore[operator]
    assert 0.99 < report["full"] <= 1  # type: ignore[operator]
    service.status = 200
    async with running(reporter):
        await until(lambda: len(service.ids) == report["waiting"])


async def test_next_process_sends_what_a_spool_holds(service: Service, tmp_path: Path) -> None:
    service.status = 503
    async with running(a_reporter(service, spool_dir=tmp_path)) as reporter:
        reporter.take(a_charge(1))
        await until(lambda: reporter.degraded)
    service.status = 200
    async with running(a_reporter(service, spool_dir=tmp_path)):
        await until(lambda: service.ids == ["0a-1"])


async def test_batch_that_is_refused_for_good_does_not_block_others(service: Service) -> None:
    service.status = 400
    async with running(a_reporter(service)) as reporter:
        reporter.take(a_charge(1))
        await until(lambda: reporter.report()["lost"] == 1)
        service.status = 200
        reporter.take(a_charge(2))
        await until(lambda: service.ids == ["0a-2"])


async def test_service_with_other_keys_takes_nothing_and_its_answer_counts_for_nothing(service: Service) -> None:
    client = InternalClient(service.url, "replica", lambda: (OTHER,))
    with pytest.raises(UnavailableError, match="without our signature"):
        await client.post(PATH, KIND, b"", 10)
    await client.close()
    assert service.batches == []


@pytest.mark.parametrize(
    ("kind", "key", "content", "late"),
    [
        (KIND, OTHER, b"", 0), (KIND + "x", KEY, b"", 0), (KIND, KEY, b"changed", 0), (KIND, KEY, b"", 1000),
    ],
)  # fmt: skip
async def test_for_everybody_else_the_route_is_an_unknown_url(
    service: Service, kind: str, key: bytes, content: bytes, late: float
) -> None:
    service.clock.offset = late
    signature = sign_message(key, kind, "replica", Clock()(), b"")
    async with aiohttp.ClientSession(service.url) as session:
        async with session.post(PATH, data=content, headers={SIGNATURE: signature}) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (404, "unknown_url")
        async with session.post(PATH, data=b"") as answer:
            assert answer.status == 404
        async with session.get(PATH) as answer:
            assert answer.status == 404
    assert service.batches == []


async def test_refusal_is_told_from_failure(service: Service) -> None:
    client = InternalClient(service.url, "replica", lambda: (KEY,))
    errors: list[tuple[int, type[Exception]]] = [(400, MessageRefusedError), (503, UnavailableError)]
    for service.status, error in errors:
        with pytest.raises(error):
            await client.post(PATH, KIND, b"", 10)
    await client.close()
