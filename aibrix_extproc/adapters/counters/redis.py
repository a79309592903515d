"""Counters in Redis, shared by all gateways: one round trip for each reservation, with a deadline and a circuit.

One connection carries everything, in the order in which it was asked. The circuit opens when the connection is lost,
when Redis answers with an error (read-only, full, loading), and when three answers in a row came too late. It closes
after a new connection has made a reservation of its own. Meanwhile `reserve` returns None at once.

After an outage gateways come back one by one. Until all are back, Redis does not know what the others admitted: while
`is_gathering`, a gateway asks Redis and keeps to its share as well.
"""

import asyncio
import logging
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aibrix_extproc.adapters.counters import redis_script as script
from aibrix_extproc.adapters.counters.connection import (
    RedisConnection,
    RedisError,
    Reply,
    ask,
    bulk,
    connect,
    log_in,
)
from aibrix_extproc.adapters.counters.target import RedisTarget
from aibrix_extproc.core.access.limits.counters import Claim, Form, Known, Reading
from aibrix_extproc.core.access.limits.estimates import NOTHING

logger = logging.getLogger(__name__)

LATE_IN_A_ROW: Final = 3
CONNECT_SECONDS: Final = 2.0
PAUSES: Final = (0.05, 0.1, 0.2, 0.4)  # seconds between attempts; the last one stays
GATHER_SECONDS: Final = 1.5  # from the first gateway that came back, by the clock of Redis
_LONG: Final = 1e9
SETTLE_SECONDS: Final = 0.02  # settlements are collected for so long
MAX_UNSENT: Final = 100_000  # settlements that wait for Redis; further ones are dropped and counted
MAX_PACKED: Final = 50_000
_PROBE: Final = (Claim("probe", Form.BUCKET, 0, 1e9, 1e-3),)
_RESERVE, _SETTLE, _RENEW = (script.digest_of(one) for one in (script.RESERVE, script.SETTLE, script.RENEW))
_SETTLE_HEAD: Final = b"*7\r\n" + bulk(b"EVALSHA", _SETTLE, b"1")
_Packed = tuple[script.PackedClaims, bytes, bytes]  # the claims; a command's beginning, and its keys
"""What is the same in every reservation of a caller and a model."""


class RedisCounters:
    """One per process. `run` keeps the connection."""

    def __init__(
        self,
        target: RedisTarget,
        prefix: str,
        timeout_seconds: float,
        *,
        keep_seconds: float,
        lease_seconds: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._target = target
        self._tag = b"{%b}:" % prefix.encode()
        self._born = self._tag + b"born"
        self._timeout = timeout_seconds
        self._keep, self._lease = keep_seconds * 1e6, lease_seconds * 1e6
        self._on_change = on_change
        self._connection: RedisConnection | None = None
        self._ready = False
        self._lost = asyncio.Event()
        self._packed: dict[tuple[Claim, ...], _Packed] = {}
        self._unsent: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._deadlines: deque[_Waiting] = deque()
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._late = 0
        self._moved: tuple[str, int] | None = None
        self.why_away = "not connected yet"
        self._is_new = True
        self._gathered_at = 0.0  # by the monotonic clock
        self.dropped = 0
        self.mended = 0
        self.failures = 0
        self.since = time.monotonic()

    @property
    def is_away(self) -> bool:
        """Whether the circuit is open."""
        return not self._ready

    @property
    def is_gathering(self) -> bool:
        """Whether other gateways may not be back yet, which admitted requests that Redis does not know of."""
        return time.monotonic() < self._gathered_at

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        failed = 0
        try:
            while True:
                if await self._try():
                    failed = 0
                    await self._lost.wait()
                    await asyncio.sleep(PAUSES[0])
                else:
                    await asyncio.sleep(PAUSES[min(failed, len(PAUSES) - 1)])
                    failed += 1
        finally:
            connection, self._connection = self._connection, None
            self._ready = False
            if connection is not None:
                connection.abort("the process ends")

    def reserve(
        self, reservation: str, claims: tuple[Claim, ...], costs: Sequence[float], known: Sequence[Known | None]
    ) -> Awaitable[Reading | None] | None:
        """None, or a wait that ends with None: Redis is away. The wait ends at the deadline."""
        connection = self._connection
        if connection is None or not self._ready:
            return None
        known_claims = self._packed.get(claims)
        packed, head, keys = known_claims if known_claims is not None else self._pack(claims)
        argument = script.pack_reservation(packed, costs, known, keep=self._keep, lease=self._lease)
        name = reservation.encode()
        held = b"%br:%b" % (self._tag, name)
        command = b"%b$%d\r\n%b\r\n%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            head, len(held), held, keys, len(argument), argument, len(name), name,
        )  # fmt: skip
        waiting = _Waiting(asyncio.get_running_loop(), self._timeout, reservation, len(claims), self)
        self._deadlines.append(waiting)
        if self._deadline_timer is None:
            self._deadline_timer = waiting.loop.call_at(waiting.deadline, self._overdue)
        connection.send(command, waiting.on_reply)
        return waiting.future

    def settle(self, reservation: str, actual: Sequence[float] | None) -> None:
        """Replace what was reserved, with others a moment later. Waits while Redis is away."""
        mode, packed = (b"keep", b"") if actual is None else (b"settle", script.pack_actual(actual))
        self._send_later(reservation, mode, packed)

    def release(self, reservation: str) -> None:
        """End the leases of a reservation."""
        self._send_later(reservation, b"release", b"")

    async def renew(self, counter: str, members: Sequence[str]) -> int | None:
        """Let members expire later; how many there are, None if Redis is away."""
        connection = self._connection
        if connection is None or not self._ready:
            return None
        names = (member.encode() for member in members)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                found = await ask(
                    connection, b"EVALSHA", _RENEW, b"1", self._key(counter), repr(self._lease).encode(), *names
                )
        except (RedisError, TimeoutError):
            return None
        return found if isinstance(found, int) else None

    def _key(self, counter: str) -> bytes:
        return self._tag + counter.encode("utf-8", "surrogateescape")

    def _pack(self, claims: tuple[Claim, ...]) -> "_Packed":
        if len(self._packed) >= MAX_PACKED:
            self._packed.clear()
        packed = script.packed_claims(claims, self._key)
        keys = self._born, *packed.keys
        count = b"%d" % (len(keys) + 1)
        head = b"*%d\r\n" % (len(keys) + 6) + bulk(b"EVALSHA", _RESERVE, count)
        found = self._packed[claims] = packed, head, bulk(*keys)
        return found

    def _send_later(self, reservation: str, mode: bytes, actual: bytes) -> None:
        if len(self._unsent) >= MAX_UNSENT:
            self.dropped += 1
            return
        name = reservation.encode()
        held = b"%br:%b" % (self._tag, name)
        self._unsent.append(
            b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
            % (_SETTLE_HEAD, len(held), held, len(mode), mode, len(actual), actual, len(name), name)
        )
        if self._timer is None and self._ready:
            self._timer = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._send)

    def _send(self) -> None:
        self._timer = None
        connection = self._connection
        if connection is None or not self._ready:
            return
        while self._unsent:
            connection.send(self._unsent.popleft(), self._on_settled)

    def _on_settled(self, reply: Reply) -> None:
        if isinstance(reply, RedisError):
            self._failed(str(reply))
        elif reply == -1:
            self._mend(1)

    def _overdue(self) -> None:
        """End the waits whose time has passed."""
        self._deadline_timer = None
        waits = self._deadlines
        while waits and (waits[0].future.done() or waits[0].deadline <= waits[0].loop.time()):
            waiting = waits.popleft()
            if not waiting.future.done():
                waiting.give_up()
                self._late += 1
        if self._late >= LATE_IN_A_ROW:
            self._failed("answers come too late")
        if waits:
            self._deadline_timer = waits[0].loop.call_at(waits[0].deadline, self._overdue)

    def take_reply(self, waiting: "_Waiting", reply: Reply) -> Reading | None:
        """The reading of a reply, in time or not; None if it is none."""
        if not isinstance(reply, bytes):
            self._failed(str(reply))
            return None
        try:
            reading = script.unpack_reading(reply, waiting.claims)
        except struct.error:
            self._failed("an answer that makes no sense")
            return None
        self._late = 0
        if reading.mended:
            self._mend(reading.mended)
        return reading

    def _mend(self, counters: int) -> None:
        if not self.mended:
            logger.error("something else writes to counters in Redis; these begin anew", extra={"counters": counters})
        self.mended += counters

    def _failed(self, why: str) -> None:
        """Open the circuit."""
        if why.startswith("MOVED "):
            host, _, port = why.rpartition(" ")[2].rpartition(":")
            self._moved = (host, int(port)) if port.isdecimal() else None
        connection, self._connection = self._connection, None
        if self._ready:
            self._away(why)
        if connection is not None:
            connection.abort(why)

    def _on_lost(self) -> None:
        if self._connection is not None:
            why = self._connection.why_lost
            self._connection = None
            self._away(why)
        self._lost.set()

    def _away(self, why: str) -> None:
        was_ready, self._ready, self.why_away = self._ready, False, why
        self._late = 0
        if was_ready:
            self.failures += 1
            self.since = time.monotonic()
            logger.error("Redis cannot be asked for limits", extra={"redis": self._target.shown, "reason": why})
            self._on_change()

    async def _try(self) -> bool:
        """Connect, prepare, and make a reservation."""
        self._lost.clear()
        connection: RedisConnection | None = None
        host, port = self._moved or (self._target.host, self._target.port)
        self._moved = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await connect(
                    host, port, self._target.tls, self._on_lost, unix_path=self._target.unix_path
                )
                gather = await self._prepare(connection)
        except (RedisError, OSError, TimeoutError, struct.error) as error:
            why = str(error) or "no answer"
            if why.startswith("MOVED "):
                self._failed(why)
            if why != self.why_away:
                self.why_away = why
                logger.error("Redis cannot be asked for limits", extra={"redis": self._target.shown, "reason": why})
            if connection is not None:
                connection.abort(why)
            return False
        self._connection, self._ready, self._late, self._is_new = connection, True, 0, False
        self._gathered_at = time.monotonic() + gather
        if not connection.is_open:
            self._on_lost()
            return False
        logger.info("Redis counts limits", extra={"redis": self._target.shown})
        self.since = time.monotonic()
        self._on_change()
        self._send()
        return True

    async def _prepare(self, connection: RedisConnection) -> float:
        """Seconds until all gateways have come back. Raises RedisError."""
        await log_in(connection, self._target)
        for one in (script.RESERVE, script.SETTLE, script.RENEW):
            await ask(connection, b"SCRIPT", b"LOAD", one.encode())
        packed, _, _ = self._pack(_PROBE)
        argument = script.pack_reservation(packed, (1.0,), (None,), keep=1e6, lease=1e6)
        name = self._tag + b"r:probe"
        answer = await ask(connection, b"EVALSHA", _RESERVE, b"3", name, self._born, *packed.keys, argument, b"probe")
        if not isinstance(answer, bytes):
            raise RedisError("an answer that makes no sense")
        script.unpack_reading(answer, 1)
        seconds = time.monotonic() - self.since
        if self._is_new and seconds < GATHER_SECONDS:
            seconds = _LONG  # it has hardly admitted anybody, and joins those that are there
        away = b"%.0f" % (seconds * 1e6)
        times = await ask(connection, b"EVAL", script.ARRIVE.encode(), b"1", self._tag + b"first", away)
        now, first = struct.unpack("<dd", times if isinstance(times, bytes) else b"")
        passed: float = (now - first) / 1e6
        return GATHER_SECONDS - passed


class _Waiting:
    """A reservation that waits for its answer."""

    __slots__ = ("_owner", "claims", "deadline", "future", "loop", "reservation")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, timeout: float, reservation: str, claims: int, owner: RedisCounters
    ) -> None:
        self.loop = loop
        self.deadline = loop.time() + timeout
        self.future: asyncio.Future[Reading | None] = loop.create_future()
        self.reservation = reservation
        self.claims = claims
        self._owner = owner

    def on_reply(self, reply: Reply) -> None:
        reading = self._owner.take_reply(self, reply)
        if self.future.done():
            return
        if reading is None:
            self.give_up()
        else:
            self.future.set_result(reading)

    def give_up(self) -> None:
        """End the wait, and refund what Redis may have admitted: somebody else decides about the request."""
        self.future.set_result(None)
        if self.reservation:
            self._owner.settle(self.reservation, NOTHING)
