"""Mooncake's form: a JSON object a line with `timestamp` (ms), `input_length`, `output_length` (tokens) and `hash_ids`.

There is an id for each block of 512 tokens, the last of which may not be full. Equal ids are equal prefixes.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Final

import msgspec

from aibrix_extproc.replay.trace import BLOCK_TOKENS, Request, Trace, TraceError, trace_of

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class _Line(msgspec.Struct, frozen=True, gc=False):
    timestamp: Annotated[float, msgspec.Meta(ge=0, le=1e13)]
    input_length: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    output_length: _Tokens
    hash_ids: tuple[int, ...] = ()


_decode: Final = msgspec.json.Decoder(_Line).decode


def read_mooncake(name: str, lines: Iterable[bytes], block_tokens: int = BLOCK_TOKENS) -> Trace:
    """The trace; empty lines are skipped. Raises TraceError with the number of a line that cannot be read."""
    return trace_of(name, _requests(lines, block_tokens), block_tokens)


def _requests(lines: Iterable[bytes], block_tokens: int) -> Iterator[Request]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TraceError(f"line {number}: {error}") from error
        full = row.hash_ids[: row.input_length // block_tokens]
        yield Request(row.timestamp / 1000, row.input_length, row.output_length, full)
