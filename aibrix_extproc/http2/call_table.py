"""gRPC over one HTTP/2 connection: the method of each path, and turns for all calls of the connection."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aibrix_extproc.http2.call import Call
from aibrix_extproc.http2.connection import Connection
from aibrix_extproc.http2.handler import Method
from aibrix_extproc.http2.header_blocks import Headers
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.memory_use import MemoryUse
from aibrix_extproc.http2.peer_table import PeerTable, PeerUsage
from aibrix_extproc.http2.status import (
    HEAD_BLOCK,
    NOT_GRPC_BLOCK,
    NOT_POST_BLOCK,
    Status,
    status_block,
)
from aibrix_extproc.http2.streams import Stream
from aibrix_extproc.http2.turn_work import TurnWork

_CONTENT_TYPE: Final = re.compile(rb"application/grpc(\+proto)?([ ;].*)?")


class CallTable:
    """All calls of one connection. It is the listener of its `Connection`."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        loop: asyncio.AbstractEventLoop,
        flush: Callable[[], None],
        limits: ConnectionLimits,
        *,
        max_message_bytes: int,
        memory: MemoryUse | None = None,
        usage: PeerUsage | None = None,
        refuse: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self.connection = Connection(self, limits)
        self.loop = loop
        self.flush = flush  # schedules the write of what the connection has to send
        self.limits = limits
        self.max_message_bytes = max_message_bytes
        self.memory = memory or MemoryUse()
        self.usage = usage or PeerTable(ListenerLimits()).usage_of("local")
        self.refuse = refuse
        self.silent = 0  # calls that have no message yet
        self.used = False  # a call was opened since the owner of the table reset this
        self.paused = False  # the peer does not read the answers, so no call goes on
        self._methods = methods
        self._queue: deque[Call] = deque()  # calls with a backlog
        self._turn_scheduled = False
        self._work = TurnWork()

    def opened(self, stream: Stream, headers: Headers, *, ended: bool) -> None:
        """Start the call of a new stream, or answer what is wrong with the request."""
        values = headers.values
        if values[b":method"] != b"POST":
            self.connection.send_end(stream, NOT_POST_BLOCK)
            return
        if not _CONTENT_TYPE.fullmatch(values.get(b"content-type", b"")):
            self.connection.send_end(stream, NOT_GRPC_BLOCK)
            return
        self.used = True
        refusal = self.usage.open_stream(values[b":path"])
        if refusal is not None:
            self.refuse(refusal)
            self.connection.send_end(stream, HEAD_BLOCK + status_block(Status.RESOURCE_EXHAUSTED, "too many streams"))
            return
        call = Call(self, stream)
        method = self._methods.get(values[b":path"])
        if method is None:
            call.fail(Status.UNIMPLEMENTED, "unknown method")
            return
        stream.receiver = call
        call.begin(method, values.get(b"grpc-timeout"))
        if ended:
            call.received(b"", 0, 0, ended=True)

    def check_progress(self) -> None:
        """End the connection, or single calls of it, if they made no progress since the last check."""
        self.connection.check_progress()
        if self.memory.buffered or self.silent:
            for call in self._open_calls():
                call.check_progress()

    def _open_calls(self) -> Iterator[Call]:
        for stream in self.connection.open_streams():
            if isinstance(stream.receiver, Call):  # None once the call is over
                yield stream.receiver

    # ---- turns: after so much work other connections have theirs, however many calls this one has

    def count_bytes(self, size: int) -> None:
        """Count a message that a handler took. Reading one may take milliseconds for each megabyte."""
        if self._work.add_bytes(size):
            self.connection.end_turn()

    def count_shared_frame(self) -> None:
        """Count a message that shared its frame with others, so that the number of frames says nothing of the work."""
        if self._work.add_message():
            self.connection.end_turn()

    def queue(self, call: Call) -> None:
        """Let a call go on in one of the next turns."""
        self._queue.append(call)
        self._schedule_turn()

    def resume(self) -> None:
        """Let calls go on: the peer reads again."""
        self.paused = False
        self._schedule_turn()

    def _schedule_turn(self) -> None:
        if self._queue and not self._turn_scheduled and not self.paused:
            self._turn_scheduled = True
            self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_scheduled = False
        while self._queue and not self.paused and not self._queue.popleft().go_on():
            pass
        self._schedule_turn()

    def fail_calls(self, status: Status, message: str) -> None:
        """End every call with this status."""
        for call in self._open_calls():
            call.fail(status, message)
