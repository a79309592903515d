"""The cache events of one engine, in order and without gaps, or the word that some were lost.

vLLM numbers its messages and keeps the last 10,000 of them. What was missed is asked for once; if that does not close
the gap, or the numbers begin anew, the engine's cache is not known from there on. Messages have three frames (topic,
number, events); replayed ones a fourth, empty one in front, and end with the number -1.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import zmq
import zmq.asyncio

from aibrix_extproc.core.routing.prefix.events import CacheEvent, UnreadableEvents, read_events

MAX_MESSAGE_BYTES: Final = 8 * 1024 * 1024  # a peer that sends more is disconnected by the library
MAX_WAITING: Final = 10_000  # messages that wait for us; further ones are lost, and found to be
MAX_PER_SECOND: Final = 1_000  # messages of one engine that are read; an engine makes one a step
REPLAY_SECONDS: Final = 5.0
_END: Final = (1 << 64) - 1

Context = zmq.asyncio.Context  # of all sockets of a process; `destroy` ends it


class Follower(Protocol):
    """The consumer of one engine's events."""

    def take(self, event: CacheEvent) -> None:
        """Follow an event."""

    def lost(self) -> None:
        """Events are missing: forget what the engine has."""


class KVEventStream:
    """`address` and `replay` are tcp:// addresses; without `replay` a gap cannot be closed."""

    def __init__(
        self,
        context: Context,
        address: str,
        replay: str | None,
        follower: Follower,
        gap: Callable[[], None],
    ) -> None:
        """`gap` is called for each gap that was not closed."""
        self._context = context
        self._address = address
        self._replay_address = replay
        self._follower = follower
        self._gap = gap
        self._next: int | None = None  # number of the message that comes next

    async def run(self) -> None:
        """Follow until cancelled; return for an address that cannot be used."""
        try:
            socket = self._socket(zmq.SUB, self._address)
        except zmq.ZMQError:
            self._lose()
            return
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            while True:
                second, read = time.monotonic(), 0
                while read < MAX_PER_SECOND:
                    await self._on_message(await socket.recv_multipart())
                    await asyncio.sleep(0)  # messages that wait are read without a wait
                    read += 1
                await asyncio.sleep(max(0.0, second + 1.0 - time.monotonic()))
        finally:
            socket.close(linger=0)

    async def _on_message(self, frames: list[bytes]) -> None:
        if len(frames) != 3 or len(frames[1]) != 8:
            self._lose()
            return
        number = int.from_bytes(frames[1], "big")
        if self._next is None and number:
            await self._replay(0, number)  # what the engine did before we came; it may have forgotten the first of it
        elif self._next is not None and number != self._next and not await self._closed(self._next, number):
            self._lose()
        self._take(number, frames[2])

    async def _closed(self, start: int, end: int) -> bool:
        """Whether the messages from `start` to before `end` came in a replay."""
        return start < end and await self._replay(start, end) == start

    async def _replay(self, start: int, end: int) -> int | None:
        """Take in the messages from `start` to before `end`; the number of the first that came."""
        if self._replay_address is None:
            return None
        first = expected = None
        try:
            socket = self._socket(zmq.DEALER, self._replay_address)
        except zmq.ZMQError:
            return None
        try:
            async with asyncio.timeout(REPLAY_SECONDS):
                await socket.send_multipart([b"", start.to_bytes(8, "big")])
                while len(frames := await socket.recv_multipart()) == 4:
                    number = int.from_bytes(frames[2], "big")
                    if number == _END:
                        break
                    if not start <= number < end:
                        continue
                    if expected is not None and number != expected:
                        return None
                    first = number if first is None else first
                    expected = number + 1
                    self._take(number, frames[3])
        except TimeoutError:
            return None
        finally:
            socket.close(linger=0)
        return first if expected == end else None

    def _take(self, number: int, message: bytes) -> None:
        self._next = number + 1
        try:
            for event in read_events(message):
                self._follower.take(event)
        except UnreadableEvents:
            self._lose()

    def _lose(self) -> None:
        self._gap()
        self._follower.lost()

    def _socket(self, kind: int, address: str) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RCVHWM, MAX_WAITING)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5_000)
        socket.setsockopt(zmq.IPV6, 1)
        try:
            socket.connect(address)
        except zmq.ZMQError:
            socket.close(linger=0)
            raise
        return socket
