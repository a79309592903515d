"""Server-sent events about one stored object: one now, one with each change, the last one with its end."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.openai_http.call import StreamReply, refuse

T = TypeVar("T")
MAX_FOLLOWERS: Final = 256  # in one process; each looks into the database once a second
LOOK_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 15.0  # after which a comment says that the connection lives
_HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Followed(Generic[T]):
    """An object, and how it is followed. `state`: two objects of one state are not told apart."""

    first: T
    find: Callable[[], Awaitable[T | None]]
    state: Callable[[T], bytes]
    event: Callable[[T], bytes]
    has_ended: Callable[[T], bool]


class Followers:
    """Everybody who follows an object in this process, until it ends or the service does."""

    def __init__(self, look_seconds: float = LOOK_SECONDS) -> None:
        self._look_seconds = look_seconds
        self._closing = asyncio.Event()
        self._count = 0

    def close(self) -> None:
        """End all streams; clients ask again, and another process answers."""
        self._closing.set()

    def reply(self, followed: Followed[T]) -> StreamReply:
        """The stream of events. Raises RefusedError if there are too many followers."""
        if self._count >= MAX_FOLLOWERS:
            raise refuse("storage_unavailable")
        return StreamReply(self._counted(followed), None, headers=_HEADERS)

    async def _counted(self, followed: Followed[T]) -> AsyncIterator[bytes]:
        self._count += 1
        try:
            async for event in self._events(followed):
                yield event
        finally:
            self._count -= 1

    async def _events(self, followed: Followed[T]) -> AsyncIterator[bytes]:
        sent_at, sent = time.monotonic(), b""
        found: T | None = followed.first
        while found is not None:
            now = time.monotonic()
            state = followed.state(found)
            if state != sent:
                yield followed.event(found)
                sent, sent_at = state, now
            elif now - sent_at >= QUIET_SECONDS:
                yield b": nothing new\n\n"
                sent_at = now
            if followed.has_ended(found) or await self._closed():
                return
            try:
                found = await followed.find()
            except DatabaseError:
                continue  # the next look may be luckier; until then nothing is new

    async def _closed(self) -> bool:
        try:
            async with asyncio.timeout(self._look_seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True
