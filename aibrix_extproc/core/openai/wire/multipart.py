"""Reads the text fields of a multipart form that is whole in memory, without copying its file parts.

One search passes over the content, wherever `model` stands. The last of several fields with one name counts and a part
with a filename is a file, as in the engines' own parser; what the two could read differently is refused (grammar of
headers: `form_headers.py`). Headers and fields are bounded for the whole form, so only the length of the search grows.
That may take 100 ms for 50 MB of content made for it, so the reader works in steps of a few milliseconds.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.wire.form_headers import MalformedForm, PartHead, boundary_of, is_form, part_head
from aibrix_extproc.rope import Rope

MAX_PARTS: Final = 256
MAX_PART_HEADER_BYTES: Final = 8192
MAX_HEADERS_BYTES: Final = 65_536  # of all parts together
MAX_FIELD_BYTES: Final = 65_536
MAX_FIELDS_BYTES: Final = 262_144
STEP_BYTES: Final = 2_097_152  # searched in one step: 0.2 to 5 ms
FIRST_WINDOW_BYTES: Final = 65_536  # of a search, which doubles it: many parts are short

FormBody = bytes | bytearray | memoryview | Rope


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part with a filename; its content stays in the body, at `start`."""

    name: str
    filename: str
    content_type: str
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class FormFacts:
    """What a form says: its text fields and what files it carries."""

    values: Mapping[str, str]
    files: tuple[FilePart, ...]


class FormReader:
    """Reads one form in steps."""

    def __init__(self, content_type: str, body: FormBody) -> None:
        self._steps = _steps(content_type, body)

    def step(self) -> FormFacts | Problem | None:
        """One step: the form, or its refusal; None if there is more to do. Any bytes are answered, none raise."""
        return next(self._steps)


def _steps(content_type: str, body: FormBody) -> Iterator[FormFacts | Problem | None]:
    if not is_form(content_type):
        given = content_type.split(";", 1)[0].strip()[:100]
        yield Problem("unsupported_content_type", {"given": given, "accepted": "multipart/form-data"})
        return
    form = _Form(_Pieces(body) if isinstance(body, Rope) else _Whole(body))
    try:
        yield from form.read(b"--" + boundary_of(content_type))
    except MalformedForm as reason:
        yield Problem("malformed_multipart", {"reason": str(reason)})
    else:
        yield FormFacts(MappingProxyType(form.values), tuple(form.files))


class _Whole:
    """A body in one piece."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        whole = body.obj if isinstance(body, memoryview) else body
        # A view of a whole bytes object needs no copy; a slice has no `find` of its own.
        same = isinstance(whole, bytes | bytearray) and len(whole) == len(body)
        self._body = whole if isinstance(whole, bytes | bytearray) and same else bytes(body)
        self.size = len(self._body)

    def find(self, wanted: bytes, start: int, end: int) -> int:
        return self._body.find(wanted, start, end)

    def between(self, start: int, end: int) -> bytes:
        return bytes(self._body[start:end])


class _Pieces:
    """A body in many, of which never more is joined than is looked at."""

    def __init__(self, rope: Rope) -> None:
        self._pieces = rope.pieces
        self._starts = [0, *accumulate(map(len, rope.pieces))]
        self.size = rope.size

    def find(self, wanted: bytes, start: int, end: int) -> int:
        found = self.between(start, end).find(wanted)
        return found if found < 0 else start + found

    def between(self, start: int, end: int) -> bytes:
        end = min(end, self.size)
        index = bisect_right(self._starts, start) - 1
        found = []
        while start < end:
            first = self._starts[index]
            found.append(memoryview(self._pieces[index])[start - first : end - first])
            index += 1
            start = self._starts[index]
        return b"".join(found)


class _Form:
    """What was found so far."""

    def __init__(self, body: _Whole | _Pieces) -> None:
        self._body = body
        self._end = 0  # of the part at hand
        self._searched = 0  # in this step
        self._header_bytes = 0
        self._text_bytes = 0
        self._parts = 0
        self.values: dict[str, str] = {}
        self.files: list[FilePart] = []

    def read(self, dash_boundary: bytes) -> Iterator[None]:
        """Read it all; each None is the end of a step. Raises MalformedForm."""
        delimiter = b"\r\n" + dash_boundary
        position = self._after(self._first(dash_boundary), len(dash_boundary))
        while position is not None:
            head, start = self._head(position)
            yield from self._search(delimiter, start)
            self._add(head, start, self._end)
            position = self._after(self._end, len(delimiter))

    def _first(self, dash_boundary: bytes) -> int:
        """Where the first boundary stands. A line break may come before it; engines do not take other text there."""
        start = 2 if self._body.between(0, 2) == b"\r\n" else 0
        if self._body.between(start, start + len(dash_boundary)) != dash_boundary:
            raise MalformedForm("it does not begin with the boundary, or the closing boundary is missing")
        return start

    def _after(self, end: int, length: int) -> int | None:
        """Where the part behind a boundary begins; None if that was the last one."""
        position = end + length
        follows = self._body.between(position, position + 2)
        if follows == b"\r\n":
            return position + 2
        if follows == b"--":
            return None
        # What follows may be padding, or content of the part: parsers disagree.
        raise MalformedForm("its content repeats the boundary, or the closing boundary is missing")

    def _head(self, position: int) -> tuple[PartHead, int]:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MalformedForm(f"it has more than {MAX_PARTS} parts")
        end = self._body.find(b"\r\n\r\n", position, position + MAX_PART_HEADER_BYTES)
        self._header_bytes += end - position
        if end < 0 or self._header_bytes > MAX_HEADERS_BYTES:
            raise MalformedForm("the headers of a part are incomplete or too long")
        return part_head(self._body.between(position, end)), end + 4

    def _search(self, delimiter: bytes, start: int) -> Iterator[None]:
        """Find where the content that begins at `start` ends."""
        overlap, window = len(delimiter) - 1, FIRST_WINDOW_BYTES
        while True:
            self._end = self._body.find(delimiter, start, start + window + overlap)
            if self._end >= 0:
                return
            start += window
            if start + overlap >= self._body.size:
                raise MalformedForm("the closing boundary is missing")
            self._searched += window
            window = min(2 * window, STEP_BYTES)
            if self._searched + window > STEP_BYTES:
                self._searched = 0
                yield None

    def _add(self, head: PartHead, start: int, end: int) -> None:
        name, size = head.name, end - start
        if head.filename is not None:
            self.files.append(FilePart(name, head.filename, head.content_type, start, size))
            self.values.pop(name, None)
            return
        self._text_bytes += size
        if size > MAX_FIELD_BYTES or self._text_bytes > MAX_FIELDS_BYTES:
            raise MalformedForm(f"the field '{name[:100]}' is too long")
        try:
            self.values[name] = self._body.between(start, end).decode("utf-8")
        except UnicodeDecodeError:
            raise MalformedForm(f"the field '{name[:100]}' is not UTF-8") from None
