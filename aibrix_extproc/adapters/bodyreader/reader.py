"""Asks the reader process. It is started with the first large body and again after it died; bodies go one by one.

A start goes on when the body that began it has left, so that it ends on a slow machine, too. The smallest body that
waits is next, so that those of 50 MB do not hold up those of two. What waits is bounded in number, bytes and time;
whoever does not get an answer gets a 503.
"""

import asyncio
import contextlib
import heapq
import logging
import os
import sys
import tempfile
from itertools import count
from typing import Final

from aibrix_extproc.adapters.bodyreader.wire import LENGTH, MAX_ANSWER_BYTES, QUESTION, READY, Report, decode
from aibrix_extproc.core.exchange import asks
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.rope import Rope

logger = logging.getLogger(__name__)

STEP_BYTES: Final = 1024 * 1024  # copied in one turn of the loop
MAX_WAITING: Final = 256  # bodies
MAX_WAITING_BYTES: Final = 512 * 1024 * 1024  # together, unless there is only one
DEADLINE_SECONDS: Final = 20.0  # of a body; ten times what 50 MB take on a machine that is not busy
START_SECONDS: Final = 120.0  # a tenth of a second where the machine is not busy
_BUSY: Final = asks.Refused(Problem("gateway_busy"))


class ReaderError(Exception):
    """The reader process has died, or says what makes no sense."""


class _Process:
    """A running reader process with the file that it reads from."""

    def __init__(self, process: asyncio.subprocess.Process, file: int) -> None:
        self._process = process
        self.file = file

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, size: int, *, sizes: bool, prefix_seed: int) -> Report:
        """Returns the reader process's answer for the body in the file. Raises ReaderError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(QUESTION.pack(size, sizes, prefix_seed))
            await self._process.stdin.drain()
            (length,) = LENGTH.unpack(await self._process.stdout.readexactly(LENGTH.size))
            if length > MAX_ANSWER_BYTES:
                raise ReaderError(f"an answer of {length} bytes")
            return decode(await self._process.stdout.readexactly(length))
        except (OSError, EOFError, ValueError) as error:
            raise ReaderError(f"{type(error).__name__}: {error}") from error

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        os.close(self.file)


class BodyReader:
    """Reads large bodies for one gateway process."""

    def __init__(self, *, media_hosts: tuple[str, ...] = (), deadline_seconds: float = DEADLINE_SECONDS) -> None:
        self._media_hosts = media_hosts
        self.deadline_seconds = deadline_seconds
        self._process: _Process | None = None
        self._starting: asyncio.Task[_Process] | None = None
        self._busy = False
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap by size, then by arrival
        self._arrival = count()
        self._waiting = 0
        self._waiting_bytes = 0

    @property
    def pid(self) -> int | None:
        """The process; None if there is none."""
        return self._process.pid if self._process is not None and self._process.is_alive else None

    @property
    def waiting(self) -> int:
        """Bodies that are read or wait for it."""
        return self._waiting

    async def read(self, body: Rope, *, sizes: bool, prefix_seed: int = 0) -> asks.BodyRead | asks.Refused:
        """Returns the facts of a body, or the refusal."""
        full = self._waiting >= MAX_WAITING or self._waiting_bytes + body.size > MAX_WAITING_BYTES
        if full and self._waiting:
            return _BUSY
        self._waiting += 1
        self._waiting_bytes += body.size
        try:
            async with asyncio.timeout(self.deadline_seconds):
                return await self._read_in_turn(body, sizes=sizes, prefix_seed=prefix_seed)
        except TimeoutError:
            logger.warning("a large body could not be read in time", extra={"size": body.size})
        except (ReaderError, OSError) as error:
            logger.error("the reader of large bodies failed", extra={"error": str(error), "size": body.size})
        finally:
            self._waiting -= 1
            self._waiting_bytes -= body.size
        return _BUSY

    def stop(self) -> None:
        """End the process."""
        if self._starting is not None:
            self._starting.cancel()
        if self._process is not None:
            self._process.stop()
            self._process = None

    async def _read_in_turn(self, body: Rope, *, sizes: bool, prefix_seed: int) -> asks.BodyRead:
        await self._wait_for_turn(body.size)
        asking: asyncio.Task[Report] | None = None
        try:
            process = await self._running()
            await _copy(body, process.file)
            asking = asyncio.get_running_loop().create_task(
                self._ask(process, body.size, sizes=sizes, prefix_seed=prefix_seed)
            )
            asking.add_done_callback(_is_seen)
        finally:
            if asking is None:
                self._next()
        # Whoever waits may leave; the process is asked to the end all the same, so that it need not be ended.
        report = await asyncio.shield(asking)
        read = report.facts or report.problem
        if read is None:
            raise ReaderError("an empty report")
        return asks.BodyRead(read)

    async def _ask(self, process: _Process, size: int, *, sizes: bool, prefix_seed: int) -> Report:
        done = False
        try:
            async with asyncio.timeout(self.deadline_seconds):
                report = await process.ask(size, sizes=sizes, prefix_seed=prefix_seed)
            done = True
            return report
        finally:
            if not done:
                self.stop()  # it may be in the middle of this body
            self._next()

    async def _wait_for_turn(self, size: int) -> None:
        if not self._busy:
            self._busy = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (size, next(self._arrival), mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._next()
            raise

    def _next(self) -> None:
        while self._queue:
            _, _, waiting = heapq.heappop(self._queue)
            if not waiting.done():
                waiting.set_result(None)
                return
        self._busy = False

    async def _running(self) -> _Process:
        if self._process is not None and not self._process.is_alive:
            self.stop()
        if self._process is not None:
            return self._process
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
            self._starting.add_done_callback(_is_seen)
        return await asyncio.shield(self._starting)

    async def _start(self) -> _Process:
        try:
            self._process = await _started(self._media_hosts)
        finally:
            self._starting = None
        logger.info("reader of large bodies started", extra={"pid": self._process.pid})
        return self._process


def _is_seen(task: asyncio.Task[Report] | asyncio.Task[_Process]) -> None:
    """Take its failure, so that it is not reported as lost where whoever waited has left."""
    if not task.cancelled():
        task.exception()


async def _copy(body: Rope, file: int) -> None:
    """Write a body into the file that the process reads, a megabyte in a turn of the loop."""
    at = written = 0
    for piece in body.slices(STEP_BYTES):
        at += os.pwrite(file, piece, at)
        if at - written >= STEP_BYTES:
            written = at
            await asyncio.sleep(0)
    if at != body.size:
        raise ReaderError("the body does not fit")


async def _started(media_hosts: tuple[str, ...]) -> _Process:
    """A process that waits for questions. Raises ReaderError, OSError or TimeoutError."""
    file = _shared_file()
    process: asyncio.subprocess.Process | None = None
    try:
        async with asyncio.timeout(START_SECONDS):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "aibrix_extproc.adapters.bodyreader.child", str(file), *media_hosts,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, pass_fds=(file,),
            )  # fmt: skip
            assert process.stdout is not None
            if await process.stdout.read(len(READY)) != READY:
                raise ReaderError("it ended while it started")
    except BaseException:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        os.close(file)
        raise
    return _Process(process, file)


def _shared_file() -> int:
    """A file in memory, without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("aibrix-extproc-body", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # systems without memfd
        return os.dup(file.fileno())
