"""What Envoy's access log tells of a placed exchange once it is over: how it ended and what it cost.

Beside the closing fact of the machine, which knows the beginning best. A record comes from Envoy, at most a second
later and to any replica, so it survives the replica that placed the exchange.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from aibrix_extproc.core.openai.usage import Usage


class StreamEnd(StrEnum):
    """How a streamed answer ended."""

    COMPLETE = "complete"  # with its last event
    ERROR = "error"  # with an error event, the engine's or the one that the stream filter put in place of an end
    CUT = "cut"  # the connection broke on the engine's side, or a time ran out
    LEFT = "left"  # the client went away


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What metrics count of one entry, which is all that most gateways want of it."""

    operation: str
    model: str
    caller: str
    bytes_in: int
    bytes_out: int
    usage: Usage | None
    end: StreamEnd | None  # None if there was no stream


_CLIENT_LEFT = frozenset({"downstream_connection_termination", "downstream_remote_reset"})
# Flags of an answer that is whole all the same.
_HARMLESS = frozenset({"upstream_retry_limit_exceeded", "delay_injected", "fault_injected"})


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """One entry. Texts are empty and numbers None when Envoy did not tell them; times are in seconds."""

    request_id: str
    operation: str = ""
    model: str = ""
    caller: str = ""
    stream: str = ""  # kind of stream, empty for a whole answer
    status: int = 0  # that the client saw; 0 if it saw none
    details: str = ""
    flags: tuple[str, ...] = ()  # Envoy's response flags that are set
    bytes_in: int = 0  # of the request's body
    bytes_out: int = 0  # of the response's body
    wall_started_at: float | None = None
    first_byte_seconds: float | None = None  # from the start to the response's head on its way to the client
    total_seconds: float | None = None
    upstream_address: str = ""
    attempts: int = 0
    usage: Usage | None = None
    terminal: bool | None = None  # whether the stream's last event was seen; None without a stream filter
    error: str = ""  # code of an error inside of the stream

    @property
    def stream_end(self) -> StreamEnd | None:
        """How the stream ended; None if there was none."""
        if not self.stream or not 200 <= self.status < 300:
            return None
        return stream_end(self.flags, terminal=self.terminal, error=self.error)


def stream_end(flags: Iterable[str], *, terminal: bool | None, error: str) -> StreamEnd:
    """How a streamed answer ended, from what the stream filter saw and Envoy's response flags."""
    if error:
        return StreamEnd.ERROR
    if terminal:
        return StreamEnd.COMPLETE
    told = set(flags)
    if told & _CLIENT_LEFT:
        return StreamEnd.LEFT
    return StreamEnd.CUT if terminal is False or told - _HARMLESS else StreamEnd.COMPLETE
