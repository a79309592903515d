"""The Range header of one content, RFC 9110 section 14."""

import re
from dataclasses import dataclass
from typing import Final

_ONE: Final = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a content: from `start` up to and without `end`."""

    start: int
    end: int

    def content_range(self, size: int) -> str:
        """The Content-Range header of a 206."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


class NotSatisfiable(Exception):
    """The range begins behind the end: 416."""


def is_same_content(if_range: str | None, etag: str) -> bool:
    """True if an If-Range header lets a range through: there is none, or it names the content's own strong tag."""
    return if_range is None or if_range.strip() == etag


def read_range(header: str | None, size: int) -> Span | None:
    """The wanted bytes; None for the whole content, which also answers several ranges and what is not understood."""
    found = _ONE.fullmatch(header.strip()) if header is not None and len(header) <= 64 else None
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last N bytes
        count = int(last)
        if count == 0 or size == 0:
            raise NotSatisfiable
        return Span(max(size - count, 0), size)
    start = int(first)
    if last and int(last) < start:
        return None  # not a range at all: ignored, as the RFC has it
    if start >= size:
        raise NotSatisfiable
    return Span(start, min(int(last) + 1, size) if last else size)
