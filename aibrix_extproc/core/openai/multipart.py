"""Reads the text fields of a multipart form that is whole in memory, without copying its file parts.

One `bytes.find` per part steps over the content, so a 25 MB upload costs a few calls wherever `model` stands (SDKs
send it before or after the file). Where forms can be read in two ways this reads them as the engines' parser does
(a part is a file if it has a filename; the last of several fields with one name counts) or refuses them, so that
gateway and engine never disagree about the model.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.openai.errors import Problem

MAX_PARTS: Final = 256
MAX_PART_HEADER_BYTES: Final = 8192
MAX_FIELD_BYTES: Final = 65_536
MAX_FIELDS_BYTES: Final = 262_144
MAX_BOUNDARY_CHARS: Final = 200

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(rf"\s*;\s*(?:({_TOKEN})\s*=\s*(?:\"((?:[^\"\\\r\n]|\\[^\r\n])*+)\"|([^\s;\"]*)))?")
_ESCAPED: Final = re.compile(r"\\([\"\\])")
_BOUNDARY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_AFTER_DELIMITER: Final = re.compile(rb"(--)|[ \t]{0,64}\r\n")
_FOLD: Final = re.compile(rb"\r\n[ \t]+")


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


class _Malformed(Exception):
    """The reason why a form cannot be read; never leaves this module."""


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    filename: str | None
    content_type: str
    start: int
    end: int


def form_fields(content_type: str, body: bytes | bytearray | memoryview) -> FormFacts | Problem:
    """The fields and files of a form, or the refusal; any bytes are answered, none raise."""
    if content_type.split(";", 1)[0].strip().lower() != "multipart/form-data":
        given = content_type.split(";", 1)[0].strip()[:100]
        return Problem("unsupported_content_type", {"given": given, "accepted": "multipart/form-data"})
    try:
        return _facts(_searchable(body), _boundary(content_type))
    except _Malformed as reason:
        return Problem("malformed_multipart", {"reason": str(reason)})


def form_field(content_type: str, body: bytes | bytearray | memoryview, name: str) -> str | Problem | None:
    """One text field of a form: None if the form does not have it."""
    facts = form_fields(content_type, body)
    return facts if isinstance(facts, Problem) else facts.values.get(name)


def _searchable(body: bytes | bytearray | memoryview) -> bytes | bytearray:
    if not isinstance(body, memoryview):
        return body
    whole = body.obj
    # A view of a whole bytes object needs no copy; a slice has no `find` of its own.
    return whole if isinstance(whole, bytes) and len(whole) == body.nbytes else bytes(body)


def _boundary(content_type: str) -> bytes:
    parameters = _parameters(content_type, content_type.find(";"))
    boundary = parameters.get("boundary", "") if parameters is not None else ""
    if len(boundary) > MAX_BOUNDARY_CHARS or not _BOUNDARY.fullmatch(boundary):
        raise _Malformed("the Content-Type header has no usable boundary")
    return boundary.encode("ascii")


def _parameters(value: str, position: int) -> dict[str, str] | None:
    """The `; name=value` parameters from a position on, None if they are out of shape or given twice."""
    found: dict[str, str] = {}
    if position < 0:
        return found
    while position < len(value.rstrip()):
        match = _PARAMETER.match(value, position)
        if match is None:
            return None
        position = match.end()
        if match[1] is None:
            continue
        name = match[1].lower()
        if name in found:
            return None
        found[name] = match[3] if match[2] is None else _ESCAPED.sub(r"\1", match[2])
    return found


def _facts(body: bytes | bytearray, boundary: bytes) -> FormFacts:
    values: dict[str, str] = {}
    files: list[FilePart] = []
    text_bytes = 0
    for part in _parts(body, b"--" + boundary):
        size = part.end - part.start
        if part.filename is not None:
            files.append(FilePart(part.name, part.filename, part.content_type, part.start, size))
            values.pop(part.name, None)
            continue
        text_bytes += size
        if size > MAX_FIELD_BYTES or text_bytes > MAX_FIELDS_BYTES:
            raise _Malformed(f"the field '{part.name[:100]}' is too long")
        values[part.name] = _decoded(body[part.start : part.end], part.name)
    return FormFacts(MappingProxyType(values), tuple(files))


def _decoded(raw: bytes | bytearray, name: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _Malformed(f"the field '{name[:100]}' is not UTF-8") from None


def _parts(body: bytes | bytearray, dash_boundary: bytes) -> list[_Part]:
    delimiter = b"\r\n" + dash_boundary
    position = _first_part(body, dash_boundary, delimiter)
    parts: list[_Part] = []
    while position is not None:
        if len(parts) == MAX_PARTS:
            raise _Malformed(f"it has more than {MAX_PARTS} parts")
        header_end = body.find(b"\r\n\r\n", position, position + MAX_PART_HEADER_BYTES)
        if header_end < 0:
            raise _Malformed("the headers of a part are incomplete or too long")
        name, filename, content_type = _part_headers(bytes(body[position:header_end]))
        start = header_end + 4
        end, position = _next_delimiter(body, delimiter, start)
        parts.append(_Part(name, filename, content_type, start, end))
    return parts


def _first_part(body: bytes | bytearray, dash_boundary: bytes, delimiter: bytes) -> int | None:
    """Where the first part begins; what stands before the first boundary is nobody's."""
    if body.startswith(dash_boundary):
        after = _AFTER_DELIMITER.match(body, len(dash_boundary))
        if after is not None:
            return None if after[1] else after.end()
    return _next_delimiter(body, delimiter, 0)[1]


def _next_delimiter(body: bytes | bytearray, delimiter: bytes, start: int) -> tuple[int, int | None]:
    """Where the content that begins at `start` ends, and where the next part begins (None: that was the last)."""
    position = start
    for _ in range(MAX_PARTS):
        end = body.find(delimiter, position)
        if end < 0:
            raise _Malformed("the closing boundary is missing")
        after = _AFTER_DELIMITER.match(body, end + len(delimiter))
        if after is not None:
            return end, None if after[1] else after.end()
        position = end + 1  # only looks like the boundary: it goes on with other characters
    raise _Malformed("its content repeats the boundary")


def _part_headers(block: bytes) -> tuple[str, str | None, str]:
    """Name, filename (None: a text field) and content type of a part."""
    disposition: str | None = None
    content_type = ""
    for line in _FOLD.sub(b" ", block).split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if not colon or b"\r" in line or b"\n" in line:
            raise _Malformed("a part has a header out of shape")
        name = key.strip().lower()
        if name == b"content-disposition":
            if disposition is not None:
                raise _Malformed("a part has two Content-Disposition headers")
            disposition = value.decode("utf-8", "replace")
        elif name == b"content-type":
            content_type = value.decode("latin-1").strip()
    parameters = _parameters(disposition, disposition.find(";")) if disposition is not None else None
    # `name*` is another spelling of the name that parsers disagree about.
    if parameters is None or "name" not in parameters or any(key.startswith("name*") for key in parameters):
        raise _Malformed("a part has no name")
    filename = next((value for key, value in parameters.items() if key.startswith("filename")), None)
    return parameters["name"], filename, content_type
