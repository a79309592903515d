"""A gateway's own log: the lines `exchange recorded`, in JSON.

They tell lengths and times. A line may also have `prefix`, the ids of the full blocks of its prompt, and
`prefix_block_tokens`; without them each prompt is taken as one that nothing else begins with.
"""

import datetime
from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from aibrix_extproc.replay.trace import BLOCK_TOKENS, MODEL, Request, Trace, TraceError, trace_of

MESSAGE: Final = "exchange recorded"
_MARK: Final = b'"exchange recorded"'
_HOW: Final = "a gateway writes them with log.format=json, log.exchanges=true and metering"
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class _Line(msgspec.Struct, frozen=True, gc=False):
    time: datetime.datetime
    message: str
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e7)] | None = None
    model: str | None = None
    prefix: tuple[int, ...] = ()
    prefix_block_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**20)] = BLOCK_TOKENS


_decode: Final = msgspec.json.Decoder(_Line).decode


def read_exchange_log(name: str, lines: Iterable[bytes]) -> Trace:
    """The trace of the exchanges that have a usage. Raises TraceError for such a line that is broken, or for none."""
    found = list(_lines(lines))
    if not found:
        raise TraceError(f"no line says {MESSAGE!r} with a usage; {_HOW}")
    sizes = {one.prefix_block_tokens for one in found if one.prefix}
    if len(sizes) > 1:
        raise TraceError(f"its prefixes have blocks of different sizes: {', '.join(map(str, sorted(sizes)))} tokens")
    return trace_of(name, map(_request, found), *sizes)


def _lines(lines: Iterable[bytes]) -> Iterator[_Line]:
    for number, line in enumerate(lines, 1):
        start = line.find(b"{")  # what collects logs may write something in front
        if start < 0 or _MARK not in line:
            continue
        try:
            row = _decode(line[start:])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TraceError(f"line {number}: {error}") from error
        if row.message == MESSAGE and row.input_tokens:
            yield row


def _request(row: _Line) -> Request:
    """The line is written when the exchange has ended."""
    at = row.time.timestamp() - (row.seconds or 0.0)
    blocks = row.prefix[: (row.input_tokens or 1) // row.prefix_block_tokens]
    return Request(at, row.input_tokens or 1, row.output_tokens or 0, blocks, model=row.model or MODEL)
