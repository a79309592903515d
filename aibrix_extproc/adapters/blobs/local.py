"""Writes blobs into a local folder. A thread hashes and writes while the event loop receives the next bytes."""

import asyncio
import hashlib
import os
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

Buffer = bytes | bytearray | memoryview
_Write = Callable[[Buffer], asyncio.Future[None]]  # a step in the file's thread

UNFINISHED: Final = ".unfinished"  # ends the name of what is being written; a sweep removes what a killed process left
BUFFER_BYTES: Final = 1024 * 1024  # so large that waiting for the interpreter's lock costs little beside it
_BUFFERS: Final = 4  # of one file; then the client waits for the disk
_FLUSHED_EARLY: Final = 8 * 1024 * 1024  # bytes after which the disk begins to write, so that the last flush is short


async def write_file(path: Path, content: AsyncIterator[bytes]) -> str:
    """Write a file that appears whole and on the disk, or not at all; its SHA-256 in hexadecimal.

    Raises OSError and what the iterator raises. A thread of its own does one step after the other, also those that a
    cancelled caller left behind.
    """
    file, digest = _Unfinished(path), hashlib.sha256()
    thread = ThreadPoolExecutor(1, "blob")

    def write(piece: Buffer) -> None:
        digest.update(piece)
        file.write(piece)

    def run(step: Callable[..., None], *arguments: Buffer) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(thread, step, *arguments)

    try:
        await _write_behind(content, file, partial(run, write))
        await run(file.finish)
    except BaseException:
        await run(file.discard)
        raise
    finally:
        thread.shutdown(wait=False)
    return digest.hexdigest()


def write_bytes(path: Path, content: bytes) -> None:
    """The same for a content that is in memory; it blocks."""
    file = _Unfinished(path)
    try:
        file.write(content)
        file.finish()
    except BaseException:
        file.discard()
        raise


async def _write_behind(content: AsyncIterator[bytes], file: "_Unfinished", write: _Write) -> None:
    """Fill one buffer while others are written; stop at a failure, which `finish` raises.

    Copying costs less than keeping what was received: that would be new memory for each piece.
    """
    buffer, filled = bytearray(BUFFER_BYTES), 0
    writing: deque[tuple[asyncio.Future[None], bytearray]] = deque()
    async for piece in content:
        rest = memoryview(piece)
        while rest:
            taken = min(len(rest), BUFFER_BYTES - filled)
            buffer[filled : filled + taken] = rest[:taken]
            rest, filled = rest[taken:], filled + taken
            if filled == BUFFER_BYTES:
                writing.append((write(buffer), buffer))
                buffer, filled = await _next_buffer(writing), 0
        if file.error is not None:
            return
    await write(memoryview(buffer)[:filled])


async def _next_buffer(writing: deque[tuple[asyncio.Future[None], bytearray]]) -> bytearray:
    """One that is written, or a new one."""
    if len(writing) < _BUFFERS and not writing[0][0].done():
        return bytearray(BUFFER_BYTES)
    written, buffer = writing.popleft()
    await written
    return buffer


class _Unfinished:
    """A file under a temporary name."""

    def __init__(self, path: Path) -> None:
        self.error: OSError | None = None
        self._path = path
        # Two processes may write the same blob: the old owner of a lease and the new one.
        self._temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        self._descriptor: int | None = None
        self._size = 0
        self._flushed = 0  # bytes that the disk was told to write

    def write(self, piece: Buffer) -> None:
        """Append a piece, unless one before failed."""
        if self.error is not None:
            return
        try:
            self._write(piece)
        except OSError as error:
            self.error = error

    def finish(self) -> None:
        """Flush the file, give it its name, and flush that. Raises the OSError that was first."""
        if self.error is not None:
            raise self.error
        os.fsync(self._opened())
        os.replace(self._temporary, self._path)
        _flush_folder(self._path.parent)
        self._close()

    def discard(self) -> None:
        """Remove it, unless it has its name already."""
        self._close()
        self._temporary.unlink(missing_ok=True)

    def _write(self, piece: Buffer) -> None:
        descriptor = self._opened()
        rest = memoryview(piece)
        self._size += len(rest)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if self._size - self._flushed >= _FLUSHED_EARLY:
            _begin_to_flush(descriptor, self._flushed, self._size - self._flushed)
            self._flushed = self._size

    def _opened(self) -> int:
        if self._descriptor is None:
            if not self._path.parent.is_dir():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                _flush_folder(self._path.parent.parent)
            self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _begin_to_flush(descriptor: int, start: int, length: int) -> None:
    """Let Linux begin to write these bytes to the disk, without waiting for it. Elsewhere the last flush is longer."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # some network file systems
            os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _flush_folder(folder: Path) -> None:
    """Make names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
