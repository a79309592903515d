"""The service's half of the control feed, asked as gateways do: changes, bad requests, reports."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from aibrix_extproc.adapters.internal_api.client import InternalClient, MessageRefusedError, UnavailableError
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.adapters.openai_http.internal import InternalRoutes
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.metadata.control_feed import ControlFeed
from aibrix_extproc.core.access.signed_message import SIGNATURE, sign_message
from aibrix_extproc.core.control.feed import (
    FEED_KIND,
    FEED_PATH,
    REPORT_KIND,
    REPORT_PATH,
    FeedRequest,
    Report,
    decode_page,
    encode,
)
from aibrix_extproc.core.control.rows import Page, Section
from tests.waiting import until

KEY = b"k" * 32


@dataclass
class Replica:
    """One process of the service, and a gateway that asks it."""

    url: str
    feed: ControlFeed
    client: InternalClient

    async def ask(self, since: Page | None, wait_seconds: float = 0.0) -> Page:
        known = ("", 0) if since is None else (since.history, since.version)
        request = encode(FeedRequest("nonce", *known, wait_seconds=wait_seconds))
        return decode_page(await self.client.post(FEED_PATH, FEED_KIND, request, 60.0))


@asynccontextmanager
async def a_replica(database: Database) -> AsyncIterator[Replica]:
    feed = ControlFeed(ControlLedger(database), GatewayLedger(database))
    internal = InternalRoutes(feed.routes(), lambda: (KEY,), time.time)
    server = ApiServer({}, keys=lambda: (KEY,), observe=lambda *_: None, internal=internal)
    port = await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}"
    client = InternalClient(url, "gateway-1", lambda: (KEY,))
    task = asyncio.create_task(feed.run())
    try:
        yield Replica(url, feed, client)
    finally:
        task.cancel()
        await client.close()
        await server.stop()


@pytest.fixture
async def replica(database: Database) -> AsyncIterator[Replica]:
    async with a_replica(database) as made:
        yield made


async def test_a_change_at_one_replica_reaches_who_waits_at_another(replica: Replica, database: Database) -> None:
    ledger = ControlLedger(database)
    async with a_replica(database) as other:
        start = await replica.ask(None)
        assert start.restart
        waiting = [asyncio.create_task(one.ask(start, 20.0)) for one in (replica, other, other)]
        await until(lambda: replica.feed.report() == {"version": 0, "waiting": 1})
        assert not any(task.done() for task in waiting)
        await ledger.put(Section.LIMITS, "a", {"n": 1})
        pages = await asyncio.gather(*waiting)
        assert [[row.id for row in page.rows] for page in pages] == [["a"]] * 3
        # Who knows the latest waits again, although the service has looked at an older version last.
        again = asyncio.create_task(replica.ask(pages[0], 20.0))
        await until(lambda: replica.feed.report()["waiting"] == 1)
        await ledger.delete(Section.LIMITS, "a")
        assert (await again).rows[0].data is None


async def test_who_waits_in_vain_gets_an_empty_page(replica: Replica) -> None:
    start = await replica.ask(None)
    page = await replica.ask(start, 0.05)
    assert (page.rows, page.version, page.restart) == ((), start.version, False)
    assert (await replica.ask(start, -5.0)).rows == ()


@pytest.mark.parametrize("content", [b"", b"garbage", b"[]", b'{"nonce": 1}', b'{"nonce":"n","since":"x"}'])
async def test_requests_that_say_nothing_are_refused(replica: Replica, content: bytes) -> None:
    for path, kind in ((FEED_PATH, FEED_KIND), (REPORT_PATH, REPORT_KIND)):
        with pytest.raises(MessageRefusedError):
            await replica.client.post(path, kind, content, 30.0)


async def test_strangers_get_the_404_of_an_unknown_path(replica: Replica) -> None:
    content, now = encode(FeedRequest("n")), time.time()
    signatures = {
        "none": None,
        "garbage": "x.y",
        "of another key": sign_message(b"x" * 32, FEED_KIND, "g", now, content),
        "of another kind": sign_message(KEY, REPORT_KIND, "g", now, content),
        "expired": sign_message(KEY, FEED_KIND, "g", now - 1000, content),
        "of another content": sign_message(KEY, FEED_KIND, "g", now, b"other"),
    }
    async with aiohttp.ClientSession(replica.url) as session:
        async with session.post("/internal/control/v1/other") as answer:
            unknown = await answer.read()
        for what, signature in signatures.items():
            headers = {} if signature is None else {SIGNATURE: signature}
            async with session.post(FEED_PATH, data=content, headers=headers) as answer:
                assert answer.status == 404, what
                assert (await answer.read()).replace(b"feed", b"other") == unknown


async def test_reports_of_gateways_are_kept_with_their_age(replica: Replica, database: Database) -> None:
    gateways = GatewayLedger(database)
    await replica.client.post(REPORT_PATH, REPORT_KIND, encode(Report(3, {"engine-1": 2})), 30.0)

    async def stored() -> list[object]:
        return [(one.replica, one.applied_version, one.in_flight) for one in await gateways.reports()]

    async def first() -> bool:
        return await stored() == [("gateway-1", 3, {"engine-1": 2})]

    await until(first)
    await replica.client.post(REPORT_PATH, REPORT_KIND, encode(Report(4)), 30.0)

    async def second() -> bool:
        return await stored() == [("gateway-1", 4, {})]

    await until(second)
    assert 0 <= (await gateways.reports())[0].age_seconds < 3000
    assert await gateways.forget() == 0


async def test_a_database_that_is_away_is_said_and_does_not_end_the_feed(
    replica: Replica, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await replica.ask(None)

    async def broken(*_: object, **__: object) -> Page:
        raise OSError("away")

    with monkeypatch.context() as patched:
        patched.setattr(ControlLedger, "since", broken)
        with pytest.raises(UnavailableError, match="503"):
            await replica.ask(start)
    await ControlLedger(database).put(Section.LIMITS, "a", {})
    assert len((await replica.ask(start)).rows) == 1
