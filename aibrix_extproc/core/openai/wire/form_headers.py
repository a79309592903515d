"""The headers of a form: its Content-Type, and those of each part.

Parsers of forms disagree about escapes, RFC 5987 names, folded lines, charsets and repeated parameters. The grammar
here has only what all of them read alike; anything else is refused, so that gateway and engine see the same form.
Each pattern passes a header once: all repetitions are possessive or bounded.
"""

import re
from dataclasses import dataclass
from typing import Final

MAX_TYPE_CHARS: Final = 1024  # of a Content-Type
MAX_BOUNDARY_CHARS: Final = 200
MAX_HEADERS: Final = 8  # of a part; the engines' parser takes no more
MAX_HEADER_BYTES: Final = 4096  # of one line

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
# A backslash escapes a quote. After several backslashes parsers disagree whether it does.
_QUOTED: Final = r'"((?:[^"\\\x00-\x1f\x7f]++|\\{2,}+(?!")|\\"|\\(?![\\"]))*+)"'


def _parameter(unquoted: str) -> re.Pattern[str]:
    return re.compile(rf"[ \t]*+;[ \t]*+(?:({_TOKEN})[ \t]*+=[ \t]*+(?:{_QUOTED}|({unquoted}))[ \t]*+)?+")


_OF_PART: Final = _parameter(_TOKEN)
_OF_TYPE: Final = _parameter(r"[!#-+\--:<-\[\]-~]++")  # boundaries often come unquoted though they are no tokens
_BOUNDARY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_LINE: Final = re.compile(rf"({_TOKEN}):[ ]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")
_FORM: Final = "multipart/form-data"
_UTF_8: Final = ("utf-8", "utf8")
_PLAIN_CODINGS: Final = ("7bit", "8bit", "binary")


class MalformedForm(Exception):
    """The reason why a form cannot be read; never leaves the form's reader."""


@dataclass(frozen=True, slots=True)
class PartHead:
    """What the headers of a part say. `filename` is None for a text field."""

    name: str
    filename: str | None
    content_type: str


def is_form(content_type: str) -> bool:
    """Whether a Content-Type is that of a form, whatever its parameters."""
    return content_type.partition(";")[0].strip().lower() == _FORM


def boundary_of(content_type: str) -> bytes:
    """The boundary that the Content-Type of a form names. Raises MalformedForm."""
    usable = len(content_type) <= MAX_TYPE_CHARS
    parameters = (_parameters(content_type, _FORM, _OF_TYPE) or {}) if usable else {}
    boundary = parameters.get("boundary", "")
    if len(boundary) > MAX_BOUNDARY_CHARS or "\\" in boundary or not _BOUNDARY.fullmatch(boundary):
        raise MalformedForm("the Content-Type header has no usable boundary")
    if any("*" in name for name in parameters):
        raise MalformedForm("the Content-Type header has an encoded parameter")
    if parameters.get("charset", "utf-8").lower() not in _UTF_8:
        raise MalformedForm("its charset is not UTF-8")
    return boundary.encode("ascii")


def part_head(block: bytes) -> PartHead:
    """What the lines between a boundary and the content say. Raises MalformedForm."""
    disposition: str | None = None
    content_type = ""
    lines = block.split(b"\r\n", MAX_HEADERS)
    if len(lines) > MAX_HEADERS:
        raise MalformedForm(f"a part has more than {MAX_HEADERS} headers")
    for line in lines:
        name, value = _header(line)
        if name == "content-disposition":
            if disposition is not None:
                raise MalformedForm("a part has two Content-Disposition headers")
            disposition = value
        elif name == "content-type":
            content_type = value.strip()
        elif name == "content-transfer-encoding" and value.strip().lower() not in _PLAIN_CODINGS:
            raise MalformedForm("a part has a Content-Transfer-Encoding, which engines do not decode")
    if disposition is None:
        raise MalformedForm("a part has no name")
    name, filename = _names(disposition)
    return PartHead(name, filename, content_type)


def _header(line: bytes) -> tuple[str, str]:
    if len(line) > MAX_HEADER_BYTES:
        raise MalformedForm("the headers of a part are incomplete or too long")
    found = _LINE.fullmatch(line.decode("latin-1"))
    if found is None:
        raise MalformedForm("a part has a header out of shape")
    return found[1].lower(), found[2]


def _names(disposition: str) -> tuple[str, str | None]:
    """Name and filename of a part."""
    parameters = _parameters(disposition, "form-data", _OF_PART)
    if parameters is None:
        raise MalformedForm("a part has a Content-Disposition out of shape")
    name, filename = parameters.get("name"), parameters.get("filename")
    if name is None:
        raise MalformedForm("a part has no name")
    if any("*" in key and (key != "filename*" or filename is None) for key in parameters):
        raise MalformedForm("a part has an encoded name, which a form may not have")
    if "\\" in name:
        raise MalformedForm("the name of a part has an escape")
    return _text(name), None if filename is None else _text(filename.replace('\\"', '"'))


def _text(value: str) -> str:
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedForm("the name of a part is not UTF-8") from None


def _parameters(value: str, kind: str, parameter: re.Pattern[str]) -> dict[str, str] | None:
    """The parameters of a header that begins with `kind`; None if they are out of shape or one is given twice."""
    position = len(kind)
    if value[:position].lower() != kind:
        return None
    found: dict[str, str] = {}
    end = len(value.rstrip(" \t"))
    while position < end:
        match = parameter.match(value, position)
        if match is None:
            return None
        position = match.end()
        if match[1] is None:
            continue
        name = match[1].lower()
        if name in found:
            return None
        found[name] = match[3] if match[2] is None else match[2]
    return found
