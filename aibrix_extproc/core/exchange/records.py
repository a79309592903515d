"""Records of finished exchanges, from Envoy's access log: how each ended and what it cost.

The closing fact of the machine has more about the beginning. A record comes from Envoy, at most a second later and to
any replica, so it survives the replica that placed the exchange.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import UsageIn
from aibrix_extproc.core.openai.wire.usage import Usage


class StreamEnd(StrEnum):
    """How a streamed answer ended."""

    COMPLETE = "complete"  # with its last event
    ERROR = "error"  # with an error event, the engine's or the one that the stream filter put in place of an end
    CUT = "cut"  # the connection broke on the engine's side, or a time ran out
    LEFT = "left"  # the client went away


class Times(msgspec.Struct, frozen=True, gc=False):
    """When an exchange was and how long it took, in seconds; None where Envoy does not report it."""

    wall_started_at: float | None
    first_byte_seconds: float | None  # from the start to the response's head on its way to the client
    total_seconds: float | None


class Charge(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one exchange cost, and who pays."""

    request_id: str
    operation: str
    model: str
    caller: str
    exchange_id: str = ""  # the same in every entry about this exchange, whichever replica gets it
    key_id: str = ""  # of the caller's key
    batch_id: str = ""  # of the batch that the request is a line of
    response_id: str = ""  # of the response that the request makes or retrieves
    reservation: str = ""  # of a limited caller
    wall_placed_at: int = 0  # seconds since the epoch
    status: int  # that the client saw; 0 if it saw none
    bytes_in: int = 0  # of the request's body
    bytes_out: int = 0  # of the response's body
    usage: Usage | None = None
    audio_seconds: float = 0.0
    events: int = 0  # of a stream without usage, about; most have one token
    unmetered: str = ""  # one of UNMETERED if a success has no usage; only the bytes are known then
    end: StreamEnd | None = None  # None if there was no stream
    error: str = ""  # code of an error inside of the stream
    first_seconds: float | None = None  # of a stream, from its head to its first event
    times: Times | None = None  # only where an observer wants them


_CLIENT_LEFT = frozenset({"downstream_connection_termination", "downstream_remote_reset"})


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """One entry. Texts are empty and numbers None where Envoy does not report them; times are in seconds."""

    request_id: str
    operation: str = ""
    model: str = ""
    caller: str = ""
    stream: str = ""  # kind of stream; empty for a whole answer
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
    audio_seconds: float = 0.0
    terminal: bool | None = None  # whether the stream's last event was seen; None if no filter saw a stream
    error: str = ""  # code of an error inside of the stream

    @property
    def stream_end(self) -> StreamEnd | None:
        """How the stream ended; None if there was none."""
        if self.terminal is None or not 200 <= self.status < 300:
            return None
        return stream_end(self.flags, terminal=self.terminal, error=self.error)


def stream_end(flags: Iterable[str], *, terminal: bool, error: str) -> StreamEnd:
    """How a streamed answer ended, from what the stream filter saw and Envoy's response flags."""
    if error:
        return StreamEnd.ERROR
    if terminal:
        return StreamEnd.COMPLETE
    return StreamEnd.CUT if _CLIENT_LEFT.isdisjoint(flags) else StreamEnd.LEFT


# Why the usage of a success is not known; values of a metric's label.
UNMETERED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "no_usage": "the engine reported none",
        "not_json": "the answer is neither JSON nor a stream of events",
        "too_large": "the usage stands in front of more than the filter reads",
        "encoded": "the answer is compressed",
        "cut": "the stream was cut before its usage",
        "left": "the client left before it",
        "error": "the stream ended with an error before it",
        "unseen": "no filter reported anything, or a broken answer did not end",
    }
)
_WITH_USAGE: Final = frozenset({UsageIn.USAGE, UsageIn.RESPONSE_USAGE, UsageIn.MESSAGE_USAGE})
_METERED_OPERATIONS: Final = frozenset(row.id for row in OPERATIONS if row.usage_in in _WITH_USAGE)


def unmetered(operation: str, status: int, reason: str, end: StreamEnd | None) -> str:
    """Why a success has no usage, one of UNMETERED; empty where none is expected."""
    if operation not in _METERED_OPERATIONS or not 200 <= status < 300:
        return ""
    if end is not None:
        return "no_usage" if end is StreamEnd.COMPLETE else end.value
    return reason if reason in UNMETERED else "unseen"
