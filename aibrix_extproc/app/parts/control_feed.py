"""The gateway's half of the control feed: follows the control state, keeps the last good one, and reports back.

The service away, or an answer that is not signed by ours: everything stays as it is, and its age shows on the
readiness page and in the metrics.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from aibrix_extproc.adapters.controlcache.file import CacheError, ControlCache
from aibrix_extproc.adapters.internal_api.client import InternalClient, MessageRefusedError, UnavailableError
from aibrix_extproc.app.parts.part import Meters, Part
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
from aibrix_extproc.core.control.rows import Page
from aibrix_extproc.core.control.state import ControlState

logger = logging.getLogger(__name__)

WAIT_SECONDS: Final = 10.0  # for a change; a successful answer is at most this old while all is well
ANSWER_SECONDS: Final = 10.0  # for an answer beyond that
RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0)  # after the first failure, the second, and so on
REPORT_SECONDS: Final = 5.0
URGENT_REPORT_SECONDS: Final = 0.5  # while somebody may wait for endpoints to have nothing to do
_SERVICE: Final = "metadata service"

InFlight = Callable[[], dict[str, int]]
Usage = Callable[[], dict[str, tuple[int, float]]]


class ControlFeed(Part):
    """Folds what the metadata service says into the control state of this process."""

    name = "control_feed"

    def __init__(
        self,
        state: ControlState,
        client: InternalClient,
        in_flight: InFlight,
        nonce: Callable[[], str],
        *,
        usage: Usage = dict,
        cache: ControlCache | None = None,
        start_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`in_flight`: exchanges of this process by identity, of cordoned endpoints; `usage`: of those of policies."""
        self._state = state
        self._client = client
        self._in_flight = in_flight
        self._usage = usage
        self._nonce = nonce
        self._cache = cache
        self._start_seconds = start_seconds
        self._clock = clock
        self._known = asyncio.Event()
        self._confirmed_at: float | None = None  # when the service said last that this is the state
        self._failures = 0
        self._error = "the metadata service was not asked yet"
        self._source = "none"
        self._news = asyncio.Event()  # since the last report the state has changed

    @property
    def known(self) -> bool:
        """Whether there is a state, or was no way to get one in time."""
        return self._known.is_set()

    @property
    def degraded(self) -> bool:
        """Whether the service cannot be followed, or has said what this version cannot read."""
        return bool(self._error) or bool(self._state.unreadable)

    @property
    def age_seconds(self) -> float:
        """Time since the service confirmed this state; infinite if it never did."""
        return float("inf") if self._confirmed_at is None else self._clock() - self._confirmed_at

    async def wait_known(self) -> None:
        """Return once there is a state, or start_seconds have passed."""
        await self._known.wait()

    async def run(self) -> None:
        """Follow and report, until cancelled."""
        await self._load()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._give_up_waiting())
                tasks.create_task(self._report_always())
                await self._follow()
        finally:
            await self._client.close()

    def report(self) -> Mapping[str, object]:
        """Whether it follows, where the state is from, and how old it is."""
        age = self.age_seconds
        return {
            "ok": not self.degraded,
            "error": self._error,
            "version": self._state.version,
            "source": self._source,
            "age_seconds": None if age == float("inf") else round(age, 1),
            "unreadable": len(self._state.unreadable),
        }

    def register(self, metrics: Meters) -> None:
        """Whether it follows, the version and the age."""
        metrics.gauge("aibrix_extproc_control_ok", lambda: not self.degraded)
        metrics.gauge("aibrix_extproc_control_version", lambda: self._state.version)
        metrics.gauge("aibrix_extproc_control_age_seconds", lambda: self.age_seconds)

    async def _load(self) -> None:
        if self._cache is None:
            return
        try:
            pages = await asyncio.to_thread(self._cache.load)
        except CacheError as error:
            logger.error("the cached control state cannot be used", extra={"error": str(error)})
            return
        for page in pages:
            self._state.apply(page)
        if pages:
            self._source = "cache file"
            self._known.set()
            logger.info("control state read from its cache", extra={"version": self._state.version})

    async def _give_up_waiting(self) -> None:
        try:
            async with asyncio.timeout(self._start_seconds):
                await self._known.wait()
        except TimeoutError:
            logger.error("no control state: serving without it", extra={"error": self._error})
            self._known.set()

    async def _follow(self) -> None:
        while True:
            try:
                page = await self._next()
            except (UnavailableError, MessageRefusedError, ValueError) as error:
                self._failed(str(error))
                await asyncio.sleep(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1])
            else:
                await self._take(page)

    async def _next(self) -> Page:
        """The next page. Raises UnavailableError, MessageRefusedError and ValueError."""
        state = self._state
        wait = 0.0 if self._failures or not state.complete else WAIT_SECONDS
        asked = FeedRequest(
            self._nonce(), state.history, state.version, bool(state.history) and not state.complete, wait
        )
        content = await self._client.post(FEED_PATH, FEED_KIND, encode(asked), wait + ANSWER_SECONDS)
        return decode_page(content)

    async def _take(self, page: Page) -> None:
        if self._error:
            logger.info("control state is followed", extra={"version": page.version})
        self._failures, self._error, self._source = 0, "", _SERVICE
        changed = bool(page.rows) or page.restart
        self._state.apply(page)
        self._confirmed_at = self._clock()
        if changed:
            self._news.set()
        if self._state.complete:
            self._known.set()
        if changed and self._cache is not None:
            try:
                await asyncio.to_thread(self._cache.append, page)
            except CacheError as error:
                logger.error("the control state is not cached", extra={"error": str(error)})

    def _failed(self, error: str) -> None:
        if not self._failures:
            logger.warning("control state is not followed; the last one stays in force", extra={"error": error[:300]})
        self._failures += 1
        self._error = error[:300]

    async def _report_always(self) -> None:
        """At once after each change, and from time to time."""
        while True:
            self._news.clear()
            busy = self._in_flight()
            if self._source == _SERVICE and self._state.complete:
                await self._report(Report(self._state.version, busy, self._usage()))
            try:
                async with asyncio.timeout(URGENT_REPORT_SECONDS if busy else REPORT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _report(self, report: Report) -> None:
        try:
            await self._client.post(REPORT_PATH, REPORT_KIND, encode(report), ANSWER_SECONDS)
        except (UnavailableError, MessageRefusedError) as error:
            logger.debug("a report was not taken", extra={"error": str(error)[:300]})
