"""An oracle for streams: a parser of server-sent events that is right however the bytes are cut.

It follows the WHATWG rules: lines end with LF, CR or CRLF, an event ends with a blank line, `data` lines are
joined. Comments, `id` and `retry` are read over, and so are blocks without data. What SDKs lose or stumble over (an
event that the stream's end cut off, one that grew too large) is reported as such.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

DEFAULT_MAX_EVENT_BYTES: Final = 1_048_576

_BOM: Final = b"\xef\xbb\xbf"
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class Ending(Enum):
    """How an event came to its end."""

    WHOLE = auto()
    UNTERMINATED = auto()  # the stream ended before the blank line: SDKs drop such an event
    OVERSIZED = auto()  # over the limit: its data were not kept


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event with data. `name` is empty if the stream gave none."""

    data: str
    name: str = ""
    ending: Ending = Ending.WHOLE


class SseParser:
    """Takes a stream's bytes in pieces of any size and gives its events. Memory stays below the limit."""

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._max_event_bytes = max_event_bytes
        self._pieces: list[bytes] = []  # of the line that has not ended yet
        self._line_bytes = 0
        self._data: list[bytes] = []
        self._name = b""
        self._event_bytes = 0  # of the event's ended lines, comments too
        self._oversized = False
        self._at_start = True
        self._after_cr = False  # a LF that follows belongs to the line end before it

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this piece completes."""
        events: list[SseEvent] = []
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk[1:] if chunk.startswith(b"\n") else chunk
        lines = _LINE_END.split(chunk)
        for line in lines[:-1]:
            self._hold(line)
            event = self._end_line()
            if event is not None:
                events.append(event)
        if lines[-1]:
            self._hold(lines[-1])
        elif chunk.endswith(b"\r"):
            self._after_cr = True
        return events

    def finish(self) -> list[SseEvent]:
        """What the end of the stream leaves: nothing, or one event without its blank line."""
        if self._line_bytes:
            self._end_line()  # not blank, so it ends no event
        event = self._end_event(Ending.UNTERMINATED)
        return [event] if event is not None else []

    def _hold(self, piece: bytes) -> None:
        self._line_bytes += len(piece)
        if self._event_bytes + self._line_bytes > self._max_event_bytes:
            self._oversized = True
            self._pieces.clear()
            self._data.clear()
        elif piece:
            self._pieces.append(piece)

    def _end_line(self) -> SseEvent | None:
        line = b"".join(self._pieces)
        blank = self._line_bytes == 0
        self._event_bytes += self._line_bytes
        self._pieces.clear()
        self._line_bytes = 0
        if self._at_start:
            self._at_start = False
            if line.startswith(_BOM):
                line = line[len(_BOM) :]
                blank = not line and not self._oversized
        if blank:
            return self._end_event(Ending.WHOLE)
        if not self._oversized:
            self._take(line)
        return None

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value[1:] if value.startswith(b" ") else value)
        elif name == b"event":
            self._name = value[1:] if value.startswith(b" ") else value

    def _end_event(self, ending: Ending) -> SseEvent | None:
        event: SseEvent | None = None
        name = self._name.decode("utf-8", "replace")
        if self._oversized:
            event = SseEvent("", name, Ending.OVERSIZED)
        elif self._data:
            event = SseEvent(b"\n".join(self._data).decode("utf-8", "replace"), name, ending)
        self._data.clear()
        self._name = b""
        self._event_bytes = 0
        self._oversized = False
        return event
