"""What Envoy's access log tells of a placed exchange once it is over: how it ended and what it cost.

Beside the closing fact of the machine, which knows the beginning best. A record comes from Envoy, at most a second
later and to any replica, so it survives the replica that placed the exchange.
"""

from dataclasses import dataclass
from enum import StrEnum

from aibrix_extproc.core.openai.usage import Usage


class StreamEnd(StrEnum):
    """How a streamed answer ended."""

    COMPLETE = "complete"  # with its last event
    ERROR = "error"  # with an error event, the engine's or the one that the stream filter put in place of an end
    CUT = "cut"  # the connection broke on the engine's side, or a time ran out
    LEFT = "left"  # the client went away


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
        if self.error:
            return StreamEnd.ERROR
        if self.terminal:
            return StreamEnd.COMPLETE
        flags = set(self.flags)
        if flags & _CLIENT_LEFT:
            return StreamEnd.LEFT
        return StreamEnd.CUT if self.terminal is False or flags - _HARMLESS else StreamEnd.COMPLETE
