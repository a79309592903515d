"""Watches one collection until cancelled: list, then watch; resume; list again when the server has dropped the version.

The loops are nested: `run` retries after every failure, `_list` reads page by page, `_follow` watches from version to
version, `_read_one_answer` reads one answer. A listing ends with `ListComplete`, so that the reader can drop the rest.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from aibrix_extproc.adapters.kube.api import KubeApi, refused
from aibrix_extproc.adapters.kube.errors import KubeApiError, KubeUnreachable, VersionGone
from aibrix_extproc.adapters.kube.resources import Feed
from aibrix_extproc.config_files.errors import SourceError

logger = logging.getLogger(__name__)

MAX_FAILURES_OF_A_VERSION: Final = 3  # then list again: after a restored backup a version may never be good again


@dataclass(frozen=True, slots=True)
class WatchPace:
    """Page size and times of a watch."""

    page_size: int = 250  # about a megabyte of pods, parsed in a few milliseconds
    silence_seconds: float = 90.0  # bookmarks come once a minute
    server_seconds: int = 300  # then the server ends a watch, so that connections spread over its replicas
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 10.0
    absent_seconds: float = 10.0  # between two attempts for a kind that is not installed
    short_seconds: float = 1.0  # a watch that ends sooner, without an event, counts as failed
    draw: Callable[[], float] = random.random


DEFAULT_PACE: Final = WatchPace()


@dataclass(frozen=True, slots=True)
class Put:
    """Objects as raw JSON, new or changed. `listed`: part of a listing."""

    raw: tuple[bytes, ...]
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """An object, as raw JSON, that is gone or no longer selected."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class ListBegun:
    """A listing begins. Objects of an earlier one that broke off do not count."""


@dataclass(frozen=True, slots=True)
class ListComplete:
    """The listing is complete. Objects that were not in it are gone."""


@dataclass(frozen=True, slots=True)
class Alive:
    """The watch runs, and all events until now were passed on: a good moment to act on them."""


@dataclass(frozen=True, slots=True)
class NotInstalled:
    """The kind is not installed: there are no such objects."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The watch has failed and will be tried again; objects stay. `again`: it also failed the time before."""

    error: SourceError
    again: bool


WatchEvent = Put | Deleted | ListBegun | ListComplete | Alive | NotInstalled | Failed
OnEvent = Callable[[WatchEvent], None]


class _Meta(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""
    continue_: str | None = msgspec.field(default=None, name="continue")


class _List(msgspec.Struct):
    metadata: _Meta = _Meta()
    items: list[msgspec.Raw] | None = None


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct):
    metadata: _Meta = _Meta()


class _Status(msgspec.Struct):
    code: int = 0
    message: str | None = None


_T = TypeVar("_T")
_LISTS: Final = msgspec.json.Decoder(_List)
_EVENTS: Final = msgspec.json.Decoder(_Event)
_VERSIONS: Final = msgspec.json.Decoder(_Bookmark)
_STATUSES: Final = msgspec.json.Decoder(_Status)


class Watch:
    """The watch of one feed. Keeps the version that it has reached."""

    def __init__(self, api: KubeApi, feed: Feed, on_event: OnEvent, pace: WatchPace = DEFAULT_PACE) -> None:
        self._api = api
        self._feed = feed
        self._on_event = on_event
        self._pace = pace
        self._version = ""  # empty: list first
        self._failures = 0  # since the last event; a listing alone does not reset it, as watching may be what fails

    async def run(self) -> None:
        """Watch until cancelled. Each failure is reported as an event, then retried."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except VersionGone:
                self._version = ""
                # Rare, so retried at once; but a server that drops every version at once must not be asked in a loop.
                await self._back_off(0.0 if self._failures == 0 else self._pace.first_wait_seconds)
            except KubeApiError as error:
                await self._refused(error)
            except SourceError as error:
                self._on_event(Failed(error, again=self._failures > 0))
                await self._back_off()
            except Exception as error:  # the top of a loop that must outlive its bugs
                logger.exception("a watch has failed unexpectedly", extra={"feed": self._feed.title})
                self._on_event(Failed(KubeUnreachable(f"unexpected: {error!r}"), again=True))
                await self._back_off()

    async def _refused(self, error: KubeApiError) -> None:
        if error.status == 404:
            self._version = ""
            self._on_event(NotInstalled())
            await asyncio.sleep(self._jittered(self._pace.absent_seconds))
            return
        self._on_event(Failed(error, again=self._failures > 0))
        await self._back_off(error.retry_seconds)

    async def _back_off(self, at_least: float | None = None) -> None:
        self._failures += 1
        if self._failures >= MAX_FAILURES_OF_A_VERSION:
            self._version = ""
        wait = min(self._pace.first_wait_seconds * 2 ** min(self._failures - 1, 16), self._pace.longest_wait_seconds)
        await asyncio.sleep(at_least if at_least == 0.0 else max(self._jittered(wait), at_least or 0.0))

    def _jittered(self, wait: float) -> float:
        """Between half of it and all, so that replicas that lost the same server do not return at the same moment."""
        return wait * (0.5 + self._pace.draw() / 2)

    async def _list(self) -> None:
        following = ""
        self._on_event(ListBegun())
        while True:
            query = self._feed.query(**{"limit": str(self._pace.page_size), "continue": following})
            page = _parsed(_LISTS, await self._api.get(self._feed.path, query))
            self._on_event(Put(tuple(bytes(one) for one in page.items or ()), listed=True))
            await asyncio.sleep(0)  # parsing a page takes milliseconds; exchanges run between two
            following = page.metadata.continue_ or ""
            if not following:
                break
        self._version = page.metadata.resource_version
        self._on_event(ListComplete())

    async def _follow(self) -> None:
        while True:
            started = time.monotonic()
            if not await self._read_one_answer() and time.monotonic() - started < self._pace.short_seconds:
                raise KubeUnreachable("the API server ends every watch at once")
            self._failures = 0

    async def _read_one_answer(self) -> bool:
        """Pass on the events of one answer; returns whether there were any."""
        query = self._feed.query(
            watch="1",
            allowWatchBookmarks="true",
            resourceVersion=self._version,
            timeoutSeconds=str(max(1, round(self._jittered(self._pace.server_seconds)))),
        )
        had_events = False
        # After failures it is not enough that the watch is accepted: it must last, or have an event.
        lasting = asyncio.get_running_loop().call_later(self._pace.short_seconds, self._alive)
        answer = self._api.lines(self._feed.path, query, silence_seconds=self._pace.silence_seconds)
        try:
            async with aclosing(answer):
                async for lines in answer:
                    for line in filter(None, lines):
                        self._take(_parsed(_EVENTS, line))
                        had_events = True
                    if had_events or self._failures == 0:
                        self._alive()
        finally:
            lasting.cancel()
        return had_events

    def _alive(self) -> None:
        self._failures = 0
        self._on_event(Alive())

    def _take(self, event: _Event) -> None:
        raw = bytes(event.object)
        if event.type == "ERROR":
            status = _parsed(_STATUSES, raw)
            raise refused(status.code or 500, status.message or "the watch has failed")
        self._version = _parsed(_VERSIONS, raw).metadata.resource_version or self._version
        match event.type:
            case "ADDED" | "MODIFIED":
                self._on_event(Put((raw,)))
            case "DELETED":
                self._on_event(Deleted(raw))
            case _:
                pass  # a bookmark: only its version matters


def _parsed(decoder: msgspec.json.Decoder[_T], raw: bytes) -> _T:
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError as error:
        raise KubeUnreachable(f"the API server's answer cannot be read: {error}") from error
