"""gRPC over one HTTP/2 connection: methods by path, and turns for all calls of it."""

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from aibrix_extproc.http2.call import Call
from aibrix_extproc.http2.connection import Connection
from aibrix_extproc.http2.handler import Method
from aibrix_extproc.http2.header_blocks import Head
from aibrix_extproc.http2.limits import ConnectionLimits, MemoryUse, Turn
from aibrix_extproc.http2.listener_limits import ListenerLimits, Refusal
from aibrix_extproc.http2.peer_table import PeerTable, PeerUsage
from aibrix_extproc.http2.status import (
    HEAD_BLOCK,
    NOT_GRPC_BLOCK,
    NOT_POST_BLOCK,
    Status,
    status_block,
)
from aibrix_extproc.http2.streams import Stream

_CONTENT_TYPE: Final = re.compile(rb"application/grpc(\+proto)?([ ;].*)?")


class CallTable:
    """All calls of one connection; the connection's listener."""

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
        self.flush = flush  # asks that what is to be written be written soon
        self.limits = limits
        self.max_message_bytes = max_message_bytes
        self.memory = memory or MemoryUse()
        self.usage = usage or PeerTable(ListenerLimits()).of("local")
        self.refuse = refuse
        self.silent = 0  # calls without a message yet
        self.used = False  # whether a call was opened since somebody looked
        self._methods = methods
        self._queue: deque[Call] = deque()  # calls that have more messages than fit into one turn
        self._turn_waits = False
        self.paused = False  # the peer does not take the answers that there are: no call goes on
        self._turn = Turn()

    def opened(self, stream: Stream, head: Head, *, ended: bool) -> None:
        """A new stream: find its method, or say what is wrong."""
        named = head.named
        if named[b":method"] != b"POST":
            self.connection.send_end(stream, NOT_POST_BLOCK)
            return
        if not _CONTENT_TYPE.fullmatch(named.get(b"content-type", b"")):
            self.connection.send_end(stream, NOT_GRPC_BLOCK)
            return
        self.used = True
        refusal = self.usage.open_stream(named[b":path"])
        if refusal is not None:
            self.refuse(refusal)
            self.connection.send_end(stream, HEAD_BLOCK + status_block(Status.RESOURCE_EXHAUSTED, "too many streams"))
            return
        call = Call(self, stream)
        method = self._methods.get(named[b":path"])
        if method is None:
            call.fail(Status.UNIMPLEMENTED, "unknown method")
            return
        stream.receiver = call
        call.begin(method, named.get(b"grpc-timeout"))
        if ended:
            call.received(b"", 0, 0, ended=True)

    def check_progress(self) -> None:
        """Called now and then: end what does not get on."""
        self.connection.check_progress()
        if self.memory.buffered or self.silent:
            for stream in self.connection.open_streams():
                if isinstance(stream.receiver, Call):
                    stream.receiver.check_progress()

    # ---- turns: a connection may do so much until others have theirs, however many calls it has

    def count(self, size: int) -> None:
        """A message was handled: reading it may have taken milliseconds for each megabyte."""
        if self._turn.add_bytes(size):
            self.connection.end_turn()

    def count_shared_frame(self) -> None:
        """A message that shared its frame with others, so that the number of frames tells nothing of the work."""
        if self._turn.add_message():
            self.connection.end_turn()

    def queue(self, call: Call) -> None:
        """Let a call go on when it is its turn."""
        self._queue.append(call)
        self._wait_for_turn()

    def resume(self) -> None:
        """Let calls go on."""
        self.paused = False
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        if self._queue and not self._turn_waits and not self.paused:
            self._turn_waits = True
            self.loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._turn_waits = False
        while self._queue and not self.paused and not self._queue.popleft().go_on():
            pass
        self._wait_for_turn()

    def fail_calls(self, status: Status, message: str) -> None:
        """End every call, as when the time to drain is up."""
        for stream in self.connection.open_streams():
            if isinstance(stream.receiver, Call):
                stream.receiver.fail(status, message)
