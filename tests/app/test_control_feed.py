"""The gateway's half of the control feed, against a service that is away, lies, or falls silent."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from aibrix_extproc.adapters.controlcache.file import ControlCache
from aibrix_extproc.adapters.internal_api import client as client_module
from aibrix_extproc.adapters.internal_api.client import InternalClient
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.control_feed import ControlFeed
from aibrix_extproc.app.parts.cordons import CordonKeeper
from aibrix_extproc.core.access.signed_message import SIGNATURE, sign_message
from aibrix_extproc.core.control.feed import (
    FEED_KIND,
    FEED_PATH,
    REPORT_PATH,
    Report,
    decode_report,
    decode_request,
    encode_page,
)
from aibrix_extproc.core.control.rows import Page, Row, Section
from aibrix_extproc.core.control.state import ControlState, View
from aibrix_extproc.core.fleet.cordons import Cordon
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.reduce import Listed
from aibrix_extproc.webserver import WebServer
from tests.build import an_endpoint
from tests.core.control.test_state import Size, a_row
from tests.waiting import until

KEY = b"k" * 32
Forge = Callable[[bytes, bytes], web.Response]


def signed(asked: bytes, answer: bytes, *, key: bytes = KEY, at: float | None = None) -> web.Response:
    now = time.time() if at is None else at
    signature = sign_message(key, f"{FEED_KIND}_answer", "metadata", now, asked, answer)
    return web.Response(body=answer, headers={SIGNATURE: signature})


@dataclass
class Service:
    """A service whose next pages and faults a test decides."""

    pages: list[Page] = field(default_factory=list)
    forge: Forge | None = None
    since: list[tuple[str, int, bool]] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    url: str = ""

    async def feed(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        asked = decode_request(content)
        self.since.append((asked.history, asked.since, asked.restarting))
        if self.forge is not None:
            return self.forge(content, encode_page(Page("h", 99, (a_row("forged", 99, 9),), restart=True)))
        if self.pages:
            return signed(content, encode_page(self.pages.pop(0)))
        await asyncio.sleep(min(asked.wait_seconds, 0.05))
        return signed(content, encode_page(Page(asked.history, asked.since, ())))

    async def report(self, request: web.Request) -> web.Response:
        content = await request.read()
        self.reports.append(decode_report(content))
        signature = sign_message(KEY, "control_report_answer", "metadata", time.time(), content, b"")
        return web.Response(headers={SIGNATURE: signature})


@asynccontextmanager
async def serving(service: Service, port: int = 0) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_post(FEED_PATH, service.feed)
    app.router.add_post(REPORT_PATH, service.report)
    server = WebServer(app)
    port = await server.start("127.0.0.1", port)
    service.url = f"http://127.0.0.1:{port}"
    try:
        yield port
    finally:
        await server.stop()


@asynccontextmanager
async def following(
    service: Service, cache: Path | None = None, *, start_seconds: float = 60.0
) -> AsyncIterator[tuple[ControlFeed, View[Size], ControlState]]:
    state = ControlState()
    view = state.view(Section.LIMITS, Size)
    feed = ControlFeed(
        state, InternalClient(service.url, "g", lambda: (KEY,)), dict, lambda: "nonce",
        cache=None if cache is None else ControlCache(cache), start_seconds=start_seconds,
    )  # fmt: skip
    task = asyncio.create_task(feed.run())
    try:
        yield feed, view, state
    finally:
        task.cancel()
        await asyncio.wait([task])


FIRST = Page("h", 2, (a_row("a", 1, 1), a_row("b", 2, 2)), restart=True)


async def test_pages_come_one_after_the_other_and_reports_follow(tmp_path: Path) -> None:
    service = Service([Page("h", 1, FIRST.rows[:1], more=True, restart=True), Page("h", 2, FIRST.rows[1:])])
    async with serving(service), following(service) as (feed, view, _):
        await feed.wait_known()
        assert set(view.records) == {"a", "b"}
        assert service.since[:2] == [("", 0, False), ("h", 1, True)]
        service.pages.append(Page("h", 3, (a_row("a", 3, None),)))
        await until(lambda: set(view.records) == {"b"})
        await until(lambda: service.reports and service.reports[-1] == Report(3))
        assert not feed.degraded
        assert feed.report()["source"] == "metadata service"
        assert feed.age_seconds < 60


def garbage(asked: bytes, _: bytes) -> web.Response:
    return signed(asked, b"\x00 garbage")


def unsigned(_: bytes, answer: bytes) -> web.Response:
    return web.Response(body=answer)


def other_key(asked: bytes, answer: bytes) -> web.Response:
    return signed(asked, answer, key=b"x" * 32)


def expired(asked: bytes, answer: bytes) -> web.Response:
    return signed(asked, answer, at=time.time() - 1000)


def for_another_request(_: bytes, answer: bytes) -> web.Response:
    return signed(b"other", answer)


def endless(asked: bytes, _: bytes) -> web.Response:
    return signed(asked, b" " * 300_000)


def redirect(_: bytes, __: bytes) -> web.Response:
    return web.Response(status=307, headers={"location": "/elsewhere"})


@pytest.mark.parametrize(
    "forge",
    [garbage, unsigned, other_key, expired, for_another_request, endless, redirect],
    ids=lambda one: one.__name__,
)
async def test_an_answer_that_is_not_ours_changes_nothing(forge: Forge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 200_000)
    service = Service([FIRST])
    async with serving(service), following(service) as (feed, view, state):
        await feed.wait_known()
        service.forge = forge
        await until(lambda: feed.degraded)
        asked = len(service.since)
        await until(lambda: len(service.since) > asked + 1)
        assert set(view.records) == {"a", "b"}
        assert state.version == 2
        service.forge, service.pages = None, [Page("h", 3, (a_row("c", 3, 3),))]
        await until(lambda: "c" in view.records and not feed.degraded)


async def test_a_service_that_goes_and_comes_back_is_followed_again() -> None:
    service = Service([FIRST])
    async with serving(service) as port:
        following_it = following(service)
        feed, view, _ = await following_it.__aenter__()
        await feed.wait_known()
    await until(lambda: feed.degraded)
    assert set(view.records) == {"a", "b"}
    assert "does not answer" in str(feed.report())
    service.pages = [Page("h", 3, (a_row("a", 3, None),))]
    async with serving(service, port):
        await until(lambda: set(view.records) == {"b"})
        assert service.since[-1][0] == "h"
        await until(lambda: not feed.degraded)
        await following_it.__aexit__(None, None, None)


async def test_a_start_without_the_service_uses_the_cache_or_says_that_it_has_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    service = Service([FIRST, Page("h", 3, (a_row("a", 3, 7),))])
    async with serving(service), following(service, cache) as (feed, view, _):
        await until(lambda: view.records.get("a") == Size(7))
        await until(lambda: cache.read_bytes().count(b"\n") == 2, "both pages are in the file")
    async with following(service, cache) as (feed, view, state):
        await feed.wait_known()
        assert (view.records["a"], state.version) == (Size(7), 3)
        assert feed.report()["source"] == "cache file"
        await until(lambda: feed.degraded)
    async with following(service, start_seconds=0.01) as (feed, view, _):
        await feed.wait_known()
        assert not view.records
        assert feed.degraded
        assert feed.age_seconds == float("inf")


async def test_cordons_are_applied_counted_and_end_by_themselves() -> None:
    store, load, now = FleetStore(["s"]), LoadBook(), 1000.0
    store.apply(Listed("s", (an_endpoint(1), an_endpoint(2))))
    state = ControlState()
    view = state.view(Section.CORDONS, Cordon)
    keeper = CordonKeeper(view, store, load, lambda: now)
    task = asyncio.create_task(keeper.run())
    try:
        assert keeper.in_flight() == {}
        load.acquire("engine-1")
        state.apply(
            Page("h", 1, (a_cordon("c", 1, {"identity": "engine-1", "wall_expires_at": now + 0.05}),), restart=True)
        )
        assert keeper.in_flight() == {"engine-1": 1}
        assert keeper.report() == {"cordons": 1, "endpoints": 1}
        now += 1
        await until(lambda: not store.snapshot.endpoints[0].cordon)
        assert keeper.in_flight() == {}
        state.apply(Page("h", 2, (a_cordon("c", 2, {"identity": "engine-2"}),)))
        assert [one.cordon for one in store.snapshot.endpoints] == ["", "cordoned"]
        state.apply(Page("h", 3, (a_cordon("c", 3, None),)))
        assert [one.cordon for one in store.snapshot.endpoints] == ["", ""]
    finally:
        task.cancel()


def a_cordon(row_id: str, version: int, data: object) -> Row:
    return Row("cordons", row_id, version, None if data is None else msgspec.Raw(msgspec.json.encode(data)))
