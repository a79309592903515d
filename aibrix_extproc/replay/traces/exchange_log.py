"""A gateway's own log: the lines `exchange recorded`, and those that tell prefixes, `exchange placed`, in JSON.

The first tell lengths and times. Without the second each prompt is taken as one that nothing else begins with.
"""

import datetime
from bisect import bisect_left
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from aibrix_extproc.replay.trace import MODEL, Request, Trace, TraceError, trace_of

RECORDED: Final = "exchange recorded"
PLACED: Final = "exchange placed"
LOG_BLOCK_TOKENS: Final = 128
_MARKS: Final = (b'"exchange recorded"', b'"exchange placed"')
_HOW: Final = "a gateway writes them with log.format=json, log.exchanges=true and metering"
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class _Line(msgspec.Struct, frozen=True, gc=False):
    time: datetime.datetime
    message: str
    request_id: str = ""
    input_tokens: _Tokens | None = None
    output_tokens: _Tokens | None = None
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e7)] | None = None
    model: str | None = None
    prefix: tuple[int, ...] = ()
    prefix_ends: tuple[Annotated[int, msgspec.Meta(gt=0, le=2**40)], ...] = ()


_decode: Final = msgspec.json.Decoder(_Line).decode


def read_exchange_log(name: str, lines: Iterable[bytes]) -> Trace:
    """The trace of the exchanges that have a usage. Raises TraceError for such a line that is broken, or for none."""
    placed: dict[str, _Line] = {}
    found: list[tuple[_Line, _Line | None]] = []
    for number, line in enumerate(lines, 1):
        start = line.find(b"{")  # what collects logs may write something in front
        if start < 0 or not any(mark in line for mark in _MARKS):
            continue
        try:
            row = _decode(line[start:])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TraceError(f"line {number}: {error}") from error
        if row.message == PLACED:
            if len(row.prefix) != len(row.prefix_ends) or sorted(set(row.prefix_ends)) != list(row.prefix_ends):
                raise TraceError(f"line {number}: the ends of its prefix do not fit")
            placed[row.request_id] = row
        elif row.message == RECORDED:
            before = placed.pop(row.request_id, None)
            if row.input_tokens:
                found.append((row, before))
    if not found:
        raise TraceError(f"no line says {RECORDED!r} with a usage; {_HOW}")
    blocks = _Blocks([(row.input_tokens or 0, before.prefix_ends[-1]) for row, before in found if before])
    return trace_of(name, (_request(row, before, blocks) for row, before in found), LOG_BLOCK_TOKENS)


def _request(row: _Line, placed: _Line | None, blocks: "_Blocks") -> Request:
    """The line is written when the exchange has ended."""
    at = row.time.timestamp() - (row.seconds or 0.0)
    tokens = row.input_tokens or 1
    ids = () if placed is None else blocks.of(placed.prefix, placed.prefix_ends, tokens)
    return Request(at, tokens, row.output_tokens or 0, ids, model=row.model or MODEL)


class _Blocks:
    """Makes blocks of one size out of those of a gateway: one has the id of what it ends in.

    Tokens have as many bytes as in the whole log on average, so that blocks of all prompts end at the same bytes.
    """

    def __init__(self, sizes: Iterable[tuple[int, int]]) -> None:
        known = list(sizes)
        tokens = sum(one for one, _ in known)
        self._bytes = LOG_BLOCK_TOKENS * sum(one for _, one in known) / tokens if tokens else 1.0
        self._numbers: dict[tuple[int, int], int] = {}

    def of(self, prefix: tuple[int, ...], ends: tuple[int, ...], tokens: int) -> tuple[int, ...]:
        """The ids of a prompt's full blocks."""
        numbers = self._numbers
        places = (bisect_left(ends, block * self._bytes) for block in range(1, tokens // LOG_BLOCK_TOKENS + 1))
        pairs = ((prefix[place], block) for block, place in enumerate(places) if place < len(ends))
        return tuple(numbers.setdefault(pair, len(numbers)) for pair in pairs)
