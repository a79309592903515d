"""Lines out of a content that comes in pieces, in memory bounded by the longest line that is kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    """One physical line."""

    number: int  # from 1
    start: int  # its first byte in the content
    end: int  # behind its last byte, the line end included
    text: bytes | None  # without line end and byte order mark; None: longer than the bound

    @property
    def is_blank(self) -> bool:
        """Whether nothing but white space is on it."""
        return self.text is not None and not self.text.strip()


class LineSplitter:
    """Feed it pieces; `end` gives a last line that has no line end."""

    def __init__(self, max_line_bytes: int, *, number: int = 1, start: int = 0) -> None:
        """`number` and `start` of the first line, for a content that is read from its middle."""
        self._max = max_line_bytes
        self._number = number
        self._start = start
        self._kept: list[bytes] = []
        self._length = 0

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that end in this piece."""
        position = 0
        while (found := piece.find(b"\n", position)) >= 0:
            self._keep(piece[position : found + 1])
            yield self._line()
            position = found + 1
        if position < len(piece):
            self._keep(piece[position:] if position else piece)

    def end(self) -> Iterator[Line]:
        """What is left."""
        if self._length:
            yield self._line()

    def _keep(self, part: bytes) -> None:
        self._length += len(part)
        if self._length <= self._max + 2:  # the line end does not count
            self._kept.append(part)
        else:
            self._kept.clear()

    def _line(self) -> Line:
        text: bytes | None = None
        if self._length <= self._max + 2:
            text = b"".join(self._kept).rstrip(b"\r\n")
            if self._start == 0:
                text = text.removeprefix(_BOM)
        line = Line(self._number, self._start, self._start + self._length, text)
        self._kept, self._number, self._start, self._length = [], self._number + 1, line.end, 0
        return line
