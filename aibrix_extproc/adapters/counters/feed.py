"""A feed in Redis: what one gateway writes, all others read, in the order of its coming. It may be lost at any time.

It is a stream of bounded length. One script writes and reads in one round trip, many times a second, on a connection of
its own, so that limits do not wait behind it. A gateway that begins, or comes back, first reads what is there. While
Redis is away, nothing is kept.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from aibrix_extproc.adapters.counters.connection import RedisConnection, RedisError, ask, connect, log_in
from aibrix_extproc.adapters.counters.target import RedisTarget

logger = logging.getLogger(__name__)

MAX_ENTRY_BYTES: Final = 8_448
MAX_ENTRIES: Final = 4_096  # in Redis: at most 33 MiB
AT_ONCE: Final = 7  # entries of one answer, which is bounded by the connection
KEEP_SECONDS: Final = 3_600  # after the last entry
BUSY_SECONDS: Final = 0.02  # between two round trips
IDLE_SECONDS: Final = 0.1  # the same after a second without entries
_EMPTY_IN_A_ROW: Final = 50
NOTE_SECONDS: Final = 30.0  # between two notes
NOTE_KEEP_SECONDS: Final = 86_400
MAX_NOTE_BYTES: Final = 60_000
ANSWER_SECONDS: Final = 1.0
CONNECT_SECONDS: Final = 2.0
PAUSES: Final = (0.1, 0.5, 2.0)  # between attempts; the last one stays
_START: Final = b"0-0"
SCRIPT: Final = f"""
for i = 2, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', {MAX_ENTRIES}, '*', 'b', ARGV[i])
end
if #ARGV > 1 then redis.call('EXPIRE', KEYS[1], {KEEP_SECONDS}) end
local found = {{}}
for i, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', {AT_ONCE})) do
  local bytes = entry[2][2]
  if #bytes > {MAX_ENTRY_BYTES} then bytes = '' end
  found[i] = string.format('%s %d\\n', entry[1], #bytes) .. bytes
end
return table.concat(found)
"""
_DIGEST: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest().encode()


class Reader(Protocol):
    """Who writes and reads."""

    def take(self) -> Sequence[bytes]:
        """The entries to write now, of at most MAX_ENTRY_BYTES each."""
        ...

    def deliver(self, entry: bytes, *, is_history: bool) -> None:
        """An entry, perhaps our own. `is_history`: it was there before we listened."""
        ...

    def recall(self, note: bytes) -> None:
        """The latest note that any process has left. Called before `connected`."""
        ...

    def note(self) -> bytes:
        """A note for processes that begin later, of at most MAX_NOTE_BYTES; the latest one stays."""
        ...

    def connected(self) -> None:
        """The feed can be used."""
        ...

    def lost(self) -> None:
        """The feed cannot be used, until `connected`."""
        ...


class RedisFeed:
    """One per process. `run` keeps the connection."""

    def __init__(self, target: RedisTarget, key: str, reader: Reader, *, note_seconds: float = NOTE_SECONDS) -> None:
        self._target = target
        self._key = key.encode()
        self._note_key = self._key + b":note"
        self._note_seconds = note_seconds
        self._reader = reader
        self._next = _START
        self._empty = 0
        self._noted_at = time.monotonic()
        self.is_away = True
        self.why_away = "not connected yet"

    async def run(self) -> None:
        """Write and read until cancelled."""
        failed = 0
        while True:
            try:
                await self._follow()
            except (RedisError, OSError, TimeoutError, ValueError) as error:
                failed = self._lose(str(error) or "no answer", failed)
            await asyncio.sleep(PAUSES[min(failed, len(PAUSES) - 1)])

    def _lose(self, why: str, failed: int) -> int:
        """How many attempts have failed in a row."""
        if not self.is_away or why != self.why_away:
            logger.warning("gateways share nothing", extra={"redis": self._target.shown, "reason": why})
        was_away, self.is_away, self.why_away = self.is_away, True, why
        self._reader.lost()
        return failed + 1 if was_away else 0

    async def _follow(self) -> None:
        """Until something fails, which raises RedisError, OSError, TimeoutError or ValueError."""
        connection: RedisConnection | None = None
        self._next = _START  # another Redis may have taken over, whose clock is behind
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                target = self._target
                connection = await connect(
                    target.host, target.port, target.tls, lambda: None, unix_path=target.unix_path
                )
                await log_in(connection, target)
                await ask(connection, b"SCRIPT", b"LOAD", SCRIPT.encode())
            await self._recall(connection)
            while await self._exchange(connection, is_history=True):
                pass
            self.is_away = False
            self._reader.connected()
            logger.info("gateways share what they place", extra={"redis": target.shown})
            while True:
                await self._leave_note(connection)
                more = await self._exchange(connection, is_history=False)
                if not more:
                    await asyncio.sleep(IDLE_SECONDS if self._empty >= _EMPTY_IN_A_ROW else BUSY_SECONDS)
        finally:
            if connection is not None:
                connection.abort("it is not used any more")

    async def _recall(self, connection: RedisConnection) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await ask(connection, b"GETRANGE", self._note_key, b"0", b"%d" % MAX_NOTE_BYTES)
        if isinstance(found, bytes) and found:
            self._reader.recall(found)

    async def _leave_note(self, connection: RedisConnection) -> None:
        if time.monotonic() - self._noted_at >= self._note_seconds:
            self._noted_at = time.monotonic()
            keep = b"%d" % NOTE_KEEP_SECONDS
            async with asyncio.timeout(ANSWER_SECONDS):
                await ask(connection, b"SET", self._note_key, self._reader.note(), b"EX", keep)

    async def _exchange(self, connection: RedisConnection, *, is_history: bool) -> bool:
        """Write and read once. Returns whether there may be more to read."""
        written = () if is_history else self._reader.take()
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await ask(connection, b"EVALSHA", _DIGEST, b"1", self._key, self._next, *written)
        count = 0
        for entry_id, entry in _entries(answer):
            self._next = _after(entry_id)
            count += 1
            if entry:
                self._reader.deliver(entry, is_history=is_history)
        self._empty = 0 if written or count else self._empty + 1
        return count == AT_ONCE


def _entries(answer: bytes | int | None) -> Iterator[tuple[bytes, bytes]]:
    """The ids and the entries of an answer. Raises ValueError for what is none."""
    if not isinstance(answer, bytes):
        raise ValueError("an answer that makes no sense")
    at = 0
    while at < len(answer):
        line = answer.index(b"\n", at)
        entry_id, _, size = answer[at:line].partition(b" ")
        at = line + 1 + int(size)
        yield entry_id, answer[line + 1 : at]


def _after(entry_id: bytes) -> bytes:
    """The least id behind this one; Redis before 6.2 has no open ranges."""
    milliseconds, _, number = entry_id.partition(b"-")
    return b"%d-%d" % (int(milliseconds), int(number) + 1)
