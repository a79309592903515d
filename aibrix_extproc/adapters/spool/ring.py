"""A ring of entries in mapped memory: an append is a copy, without a system call.

With a file the kernel keeps what a killed process has written, and the next process reads it. After a loss of power the
checksums tell where good entries end. Offsets grow for ever; an offset's place in the ring is its remainder.
"""

import fcntl
import mmap
import os
import struct
import zlib
from pathlib import Path
from typing import Final

_MAGIC: Final = b"aibrix-spool-1\0\0"
_OFFSETS: Final = struct.Struct("<QQ")  # of the first entry, and behind the last one
_HEADER: Final = 64
_ENTRY: Final = struct.Struct("<II")  # length and checksum


class SpoolError(Exception):
    """The file cannot be used; one sentence."""


class Ring:
    """Entries in their order. `capacity`: bytes of entries, eight more for each."""

    def __init__(self, capacity: int, file: Path | None = None) -> None:
        """`file` is locked, so that each process has one of its own. Raises SpoolError."""
        self._capacity = capacity
        self._descriptor = -1 if file is None else _locked(file)
        try:
            self._memory = self._mapped()
        except (OSError, ValueError) as error:
            self._close_descriptor()
            raise SpoolError(f"cannot map the spool {file}: {error}") from error
        self._first = self._behind = self._count = 0
        self.broken = False  # whether entries of an earlier process could not be read
        if file is not None:
            self._recover()

    def _mapped(self) -> mmap.mmap:
        size = _HEADER + self._capacity
        if self._descriptor >= 0:
            old = os.fstat(self._descriptor).st_size
            if old > _HEADER:  # of an earlier process, perhaps with another setting: its entries are still to be sent
                size, self._capacity = old, old - _HEADER
            else:
                os.ftruncate(self._descriptor, size)
        return mmap.mmap(self._descriptor, size)

    def __len__(self) -> int:
        return self._count

    @property
    def bytes_used(self) -> int:
        """Bytes of all entries."""
        return self._behind - self._first

    @property
    def capacity(self) -> int:
        """The most that `bytes_used` can be."""
        return self._capacity

    def append(self, entry: bytes) -> bool:
        """Add an entry at the end; False if there is no room."""
        size = _ENTRY.size + len(entry)
        if self.bytes_used + size > self._capacity:
            return False
        self._write(self._behind, _ENTRY.pack(len(entry), zlib.crc32(entry)) + entry)
        self._behind += size
        self._count += 1
        self._note()  # last: an entry counts when it is whole
        return True

    def oldest(self, most: int, most_bytes: int) -> list[bytes]:
        """The first entries, at least one if there is one. They stay until `drop`."""
        found: list[bytes] = []
        at, total = self._first, 0
        while at < self._behind and len(found) < most:
            length, _ = _ENTRY.unpack(self._read(at, _ENTRY.size))
            total += length
            if found and total > most_bytes:
                break
            found.append(self._read(at + _ENTRY.size, length))
            at += _ENTRY.size + length
        return found

    def drop(self, entries: int) -> None:
        """Remove the first entries."""
        for _ in range(min(entries, self._count)):
            length, _ = _ENTRY.unpack(self._read(self._first, _ENTRY.size))
            self._first += _ENTRY.size + length
            self._count -= 1
        self._note()

    def close(self) -> None:
        """Give the file back with what is in it."""
        self._memory.close()
        self._close_descriptor()

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _note(self) -> None:
        _OFFSETS.pack_into(self._memory, len(_MAGIC), self._first, self._behind)

    def _recover(self) -> None:
        """Count what an earlier process has left; a ring that makes no sense begins anew."""
        first, behind = _OFFSETS.unpack_from(self._memory, len(_MAGIC))
        is_new = self._memory[: len(_MAGIC)] != _MAGIC
        if is_new:
            self.broken = any(self._memory[:_HEADER])
        elif first <= behind <= first + self._capacity:
            self._first = self._behind = first
            while self._behind < behind and (size := self._good_entry(self._behind, behind)):
                self._behind += size
                self._count += 1
            self.broken = self._behind != behind
        else:
            self.broken = True
        self._memory[: len(_MAGIC)] = _MAGIC
        self._note()

    def _good_entry(self, at: int, end: int) -> int:
        """The size of the whole entry at an offset; 0 if it is broken."""
        if at + _ENTRY.size > end:
            return 0
        length, checksum = _ENTRY.unpack(self._read(at, _ENTRY.size))
        size = int(_ENTRY.size + length)
        if at + size > end or zlib.crc32(self._read(at + _ENTRY.size, length)) != checksum:
            return 0
        return size

    def _write(self, offset: int, content: bytes) -> None:
        place = offset % self._capacity
        until_end = self._capacity - place
        self._memory[_HEADER + place : _HEADER + place + len(content[:until_end])] = content[:until_end]
        if len(content) > until_end:
            self._memory[_HEADER : _HEADER + len(content) - until_end] = content[until_end:]

    def _read(self, offset: int, length: int) -> bytes:
        place = offset % self._capacity
        until_end = self._capacity - place
        found = self._memory[_HEADER + place : _HEADER + place + min(length, until_end)]
        return found if length <= until_end else found + self._memory[_HEADER : _HEADER + length - until_end]


def _locked(file: Path) -> int:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolError(f"cannot open the spool {file}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpoolError(f"the spool {file} belongs to a process that runs") from error
    return descriptor
