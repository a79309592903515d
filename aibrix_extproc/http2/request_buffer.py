"""The bytes of one call's request that its handler has not got yet, counted and bounded."""

from aibrix_extproc.http2.deframer import Deframer, Message
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.memory_use import MemoryUse
from aibrix_extproc.http2.status import CallError, Status


class RequestBuffer:
    """An unfinished message, and the backlog: bytes behind it that wait for the handler or for the next turn.

    A call has a buffer only while it has something to keep. Most messages come in a frame of their own and need none.
    """

    __slots__ = ("_counted", "_deframer", "_limit", "_memory", "backlog")

    def __init__(self, limits: ConnectionLimits, memory: MemoryUse, max_message_bytes: int) -> None:
        self._deframer = Deframer(max_message_bytes, limits.whole_message_bytes)
        self._memory = memory
        self._limit = limits.buffered_bytes  # of all calls of the server together
        self._counted = 0  # bytes of this buffer that `memory` includes
        self.backlog: bytearray | None = None

    @property
    def unfinished(self) -> bool:
        """Whether a part of a message is here."""
        return self._deframer.unfinished

    def check_progress(self) -> bool:
        """Whether the peer makes no progress: its message was unfinished at the last check, and nothing else waits."""
        return self._deframer.check_progress() and self.backlog is None

    def add_to_message(self, data: bytes | bytearray, start: int, end: int) -> bool:
        """Take `data[start:end]` if all of it belongs to the unfinished message and does not complete it.

        Raises CallError if the server buffers too much.
        """
        if end - start >= self._deframer.missing:
            return False
        self._deframer.add(data[start:end])
        self._counted += end - start
        self._memory.buffered += end - start
        self._check_limit()
        return True

    def next_message(self, data: bytes | bytearray, start: int, end: int) -> tuple[Message | None, int]:
        """The next message that `data[start:end]` completes, if any, and the offset behind it. Raises CallError."""
        return self._deframer.next(data, start, end)

    def keep(self, data: bytes | bytearray, start: int, end: int) -> None:
        """Put `data[start:end]` into the backlog. Raises CallError if the server buffers too much."""
        if isinstance(data, bytearray):  # the backlog that `take_backlog` gave, without its beginning
            del data[:start]
            self.backlog = data
        else:
            self.backlog = self.backlog or bytearray()
            with memoryview(data) as view, view[start:end] as rest:
                self.backlog += rest
        self.count()

    def take_backlog(self) -> bytearray | None:
        """The backlog, which is empty afterwards."""
        backlog, self.backlog = self.backlog, None
        return backlog

    def count(self) -> None:
        """Count what is here. Raises CallError if the server buffers too much."""
        size = self._deframer.buffered
        if self.backlog is not None:
            size += len(self.backlog)
        self._memory.buffered += size - self._counted
        self._counted = size
        self._check_limit()

    def _check_limit(self) -> None:
        if self._memory.buffered > self._limit:
            raise CallError(Status.RESOURCE_EXHAUSTED, "too much is waiting")

    def release(self) -> None:
        """Drop everything."""
        self._memory.buffered -= self._counted
        self._counted = 0
        self.backlog = None
