"""The soak's clients: an open loop of whole, broken off and refused requests over a bounded pool of connections."""

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter, deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, cast

from benchmarks.wire import MODEL, Reply, ReplyReader, chat_body, chat_request

CHUNKS: Final = 50
PACED: Final = f"stream;chunks={CHUNKS};pace_ms=10"
MAX_CONNECTIONS: Final = 512
SMALL: Final = chat_request(chat_body(914))
STREAM: Final = chat_request(chat_body(914, stream=True), PACED)
UNKNOWN_MODEL: Final = chat_request(chat_body(914).replace(MODEL.encode(), b"other-model"))
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST


class Kind(StrEnum):
    """What one request of the soak does."""

    CHAT = "whole chat"
    STREAM = "whole stream"
    LEFT_STREAM = "stream left halfway"
    LEFT_EARLY = "left before the answer"
    HALF_SENT = "reset in the middle of its body"
    REFUSED = "unknown model"


WEIGHTS: Final = {
    Kind.CHAT: 70, Kind.STREAM: 17, Kind.LEFT_STREAM: 5, Kind.LEFT_EARLY: 3, Kind.HALF_SENT: 2, Kind.REFUSED: 3,
}  # fmt: skip
_LEFT: Final = (Kind.LEFT_STREAM, Kind.LEFT_EARLY, Kind.HALF_SENT)


@dataclass(slots=True)
class Tally:
    """What has become of the requests so far."""

    sent: Counter[Kind]
    done: Counter[Kind]
    errors: list[str]
    skipped: int = 0  # no free connection: the open loop sheds instead of queueing


class Client(asyncio.Protocol):
    """One connection; usable again after a whole reply."""

    def __init__(self, crowd: "SoakCrowd") -> None:
        self._crowd = crowd
        self._reader = ReplyReader()
        self._kind = Kind.CHAT
        self._busy = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own class, no asyncio.Transport

    def ask(self, kind: Kind) -> None:
        """Begin a request of this kind."""
        self._kind, self._busy = kind, True
        if kind is Kind.HALF_SENT:
            self._transport.write(SMALL[:-300])
            self._leave(reset=True)
        elif kind is Kind.LEFT_EARLY:
            self._transport.write(STREAM)
            asyncio.get_running_loop().call_later(self._crowd.rng.random() * 0.01, self._leave)
        else:
            streamed = kind in (Kind.STREAM, Kind.LEFT_STREAM)
            self._transport.write(STREAM if streamed else UNKNOWN_MODEL if kind is Kind.REFUSED else SMALL)
            if kind is Kind.LEFT_STREAM:
                reset = self._crowd.rng.random() < 0.5
                asyncio.get_running_loop().call_later(0.05 + self._crowd.rng.random() * 0.3, self._leave, reset)

    def _leave(self, reset: bool = False) -> None:
        if not self._busy:
            return
        self._busy = False
        if reset:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()
        self._crowd.over(self._kind, None)

    def data_received(self, data: bytes) -> None:
        """Collect the reply."""
        if not self._busy:
            return
        reply = self._reader.feed(data)
        if reply is None:
            return
        self._busy = False
        self._crowd.over(self._kind, _problem_of(self._kind, reply))
        self._crowd.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expected only of clients that leave by themselves, or between requests."""
        self._crowd.open -= 1
        if self._busy:
            self._busy = False
            self._crowd.over(self._kind, f"{self._kind}: connection lost: {exc}")
        elif self in self._crowd.free:
            self._crowd.free.remove(self)

    def close(self) -> None:
        """Leave between requests."""
        self._transport.abort()


def _problem_of(kind: Kind, reply: Reply) -> str | None:
    if kind is Kind.REFUSED:
        return None if reply.status == 404 and b"model_not_found" in reply.body else f"{kind}: status {reply.status}"
    found = reply.problem(CHUNKS + 1 if kind is Kind.STREAM else 0)
    if kind in _LEFT:
        return None  # it was quicker than our leaving
    return None if found is None else f"{kind}: {found}"


class SoakCrowd:
    """All clients."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self.rng = random.Random(seed)
        self.free: deque[Client] = deque()
        self.open = 0
        self.tally = Tally(Counter(), Counter(), [])
        self._idle = asyncio.Event()
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Requests that are under way."""
        return self.tally.sent.total() - self.tally.done.total()

    def over(self, kind: Kind, problem: str | None) -> None:
        """One request is over."""
        self.tally.done[kind] += 1
        if self.running == 0:
            self._idle.set()
        if problem is not None and len(self.tally.errors) < 1000:
            self.tally.errors.append(problem)

    def begin(self, kind: Kind | None = None) -> None:
        """One more request, on a free connection or a new one."""
        if kind is None:
            kind = self.rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]
        if self.free:
            self.tally.sent[kind] += 1
            self.free.popleft().ask(kind)
        elif self.open < MAX_CONNECTIONS:
            self.open += 1
            self.tally.sent[kind] += 1
            task = asyncio.get_running_loop().create_task(self._on_new(kind))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        else:
            self.tally.skipped += 1

    async def _on_new(self, kind: Kind) -> None:
        try:
            _, client = await asyncio.get_running_loop().create_connection(
                lambda: Client(self), "127.0.0.1", self._port
            )
        except OSError as error:
            self.open -= 1
            self.over(kind, f"cannot connect: {error}")
            return
        client.ask(kind)

    async def pace(self, rate: float, seconds: float) -> None:
        """An open loop: `rate` requests a second whether they are answered or not."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        sent = 0
        while (passed := loop.time() - begun) < seconds:
            while sent < passed * rate:
                sent += 1
                self.begin()
            await asyncio.sleep(0.005)

    async def finish(self, seconds: float) -> None:
        """Wait for what is under way, then close every connection."""
        self._idle = asyncio.Event()
        if self.running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), seconds)
        for client in tuple(self.free):
            client.close()
