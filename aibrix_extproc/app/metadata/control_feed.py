"""The service's half of the control feed: gateways wait here for changes, one query for all of them.

A change that another replica of the service makes is found by its version in the database, LOOK_SECONDS later at most.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.adapters.openai_http.internal import InternalReply, InternalRoute
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.control.feed import (
    FEED_KIND,
    FEED_PATH,
    MAX_REPLICA,
    MAX_WAIT_SECONDS,
    REPORT_KIND,
    REPORT_PATH,
    FeedRequest,
    Report,
    decode_report,
    decode_request,
    encode_page,
)
from aibrix_extproc.core.control.rows import Page

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.3
MAX_WAITING: Final = 2_000  # gateway processes; a further one is answered at once
_AWAY: Final = InternalReply(b"the database does not answer", 503)


class ControlFeed(Part):
    """Answers gateways, and looks for changes while any of them waits."""

    name = "control_feed"

    def __init__(self, ledger: ControlLedger, gateways: GatewayLedger) -> None:
        self._ledger = ledger
        self._gateways = gateways
        self._waiting = 0
        self._reports: dict[str, Report] = {}  # by replica, until they are stored
        self._asked = asyncio.Event()  # somebody waits, or has reported
        self._failed = False
        self._latest: tuple[str, int] | None = None
        self._changed = asyncio.Event()  # replaced with each change

    def routes(self) -> Mapping[str, InternalRoute]:
        """The routes for gateways, by path."""
        return {
            FEED_PATH: InternalRoute(FEED_KIND, self._feed),
            REPORT_PATH: InternalRoute(REPORT_KIND, self._report),
        }

    async def run(self) -> None:
        """Look for changes and store reports, all of a moment at once, until cancelled."""
        while True:
            await self._asked.wait()
            try:
                await self._look()
                self._failed = False
            except (DatabaseError, OSError) as error:
                if not self._failed:
                    logger.warning("the control feed lacks the database", extra={"error": repr(error)[:300]})
                self._failed = True
            await asyncio.sleep(LOOK_SECONDS)
            if not self._waiting and not self._reports:
                self._asked.clear()

    async def _look(self) -> None:
        if self._waiting:
            self._observe(await self._ledger.version())
        if self._reports:
            reports, self._reports = self._reports, {}
            await self._gateways.store(reports)

    def report(self) -> Mapping[str, object]:
        """The version seen last, and how many gateways wait."""
        return {"version": None if self._latest is None else self._latest[1], "waiting": self._waiting}

    def _observe(self, found: tuple[str, int]) -> None:
        if found != self._latest:
            self._latest = found
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    async def _feed(self, _: str, content: bytes) -> InternalReply:
        try:
            asked = decode_request(content)
        except ValueError as error:
            return InternalReply(str(error).encode(), 400)
        try:
            page = await self._next(asked)
        except (DatabaseError, OSError) as error:
            logger.warning("control state cannot be read", extra={"error": repr(error)[:300]})
            return _AWAY
        return InternalReply(encode_page(page))

    async def _next(self, asked: FeedRequest) -> Page:
        """The next page for a gateway, which is empty if nothing has changed in its time."""
        page = await self._page(asked)
        seconds = min(max(asked.wait_seconds, 0.0), MAX_WAIT_SECONDS)
        if page.rows or page.restart or page.version != asked.since or not seconds or self._waiting >= MAX_WAITING:
            return page
        await self._wait(page, seconds)
        return await self._page(asked)

    async def _page(self, asked: FeedRequest) -> Page:
        return await self._ledger.since(asked.history, asked.since, restarting=asked.restarting)

    async def _wait(self, known: Page, seconds: float) -> None:
        self._waiting += 1
        self._asked.set()
        try:
            async with asyncio.timeout(seconds):
                while self._is_known(known):
                    await self._changed.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting -= 1

    def _is_known(self, page: Page) -> bool:
        """Whether nothing newer was seen than what a page has."""
        return self._latest is None or (self._latest[0] == page.history and self._latest[1] <= page.version)

    async def _report(self, sender: str, content: bytes) -> InternalReply:
        try:
            report = decode_report(content)
        except ValueError as error:
            return InternalReply(str(error).encode(), 400)
        if len(self._reports) < MAX_WAITING:
            self._reports[sender[:MAX_REPLICA]] = report
        self._asked.set()
        return InternalReply()
