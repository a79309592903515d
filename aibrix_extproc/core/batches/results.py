"""Results of a batch's lines: how one is written, kept in a segment, and put in order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec

EXPIRED: Final = MappingProxyType(
    {
        "code": "batch_expired",
        "message": "This request could not be executed before the completion window expired.",
    }
)
CANCELLED: Final = MappingProxyType(
    {"code": "batch_cancelled", "message": "This request was not executed: the batch was cancelled."}
)


# What JSON may have in its texts as it is, and Python's `str.splitlines` and others take for the end of a line.
_BREAKS: Final = ((b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"), (b"\xc2\x85", b"\\u0085"))


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one line. `text` is a line of the output file if it succeeded, of the error file otherwise."""

    line: int
    succeeded: bool
    text: bytes  # JSON without a line end


def answered(line: int, custom_id: str, request_id: str, status: int, body: bytes, *, result_id: str) -> Result:
    """An answer of the API, good or bad; `body` is JSON without line breaks."""
    head = _json({"status_code": status, "request_id": request_id})
    response = b'%b,"body":%b}' % (head[:-1], body)
    return _result(line, custom_id, 200 <= status < 300, response, b"null", result_id)


def not_executed(line: int, custom_id: str, error: Mapping[str, str], *, result_id: str) -> Result:
    """A line without an answer."""
    return _result(line, custom_id, False, b"null", _json(dict(error)), result_id)


def _result(line: int, custom_id: str, succeeded: bool, response: bytes, error: bytes, result_id: str) -> Result:
    head = _json({"id": result_id, "custom_id": custom_id})
    text = b'%b,"response":%b,"error":%b}' % (head[:-1], response, error)
    if not text.isascii():
        for raw, escaped in _BREAKS:
            text = text.replace(raw, escaped)
    return Result(line, succeeded, text)


def _json(fields: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(fields)


def segment(results: Iterable[Result]) -> bytes:
    """Results as they are kept until the shard is done: line number, kind, JSON."""
    return b"".join(b"%d %b %b\n" % (one.line, b"o" if one.succeeded else b"e", one.text) for one in results)


def read_segment(content: bytes) -> list[Result]:
    """The results of a segment. Raises ValueError for a content that `segment` did not make."""
    found = []
    for row in content.splitlines():
        number, kind, text = row.split(b" ", 2)
        found.append(Result(int(number), kind == b"o", text))
    return found


def files_of(results: Iterable[Result]) -> tuple[bytes, bytes]:
    """The parts of the output and the error file, in the order of the input; a line that comes twice counts once."""
    by_line = {one.line: one for one in results}
    output, errors = bytearray(), bytearray()
    for line in sorted(by_line):
        one = by_line[line]
        (output if one.succeeded else errors).extend(one.text + b"\n")
    return bytes(output), bytes(errors)
