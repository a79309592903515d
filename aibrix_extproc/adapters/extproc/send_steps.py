"""Sends large answers in steps of a few hundred kilobytes, one in a turn of the loop, so that others wait 1 to 2 ms."""

from collections.abc import Iterator
from typing import Final

from aibrix_extproc.adapters.extproc.outgoing import BodyStream
from aibrix_extproc.http2.deframer import PREFIX, length_prefixed
from aibrix_extproc.rope import Piece, Rope

STEP_BYTES: Final = 256 * 1024
CONGESTED_SECONDS: Final = 0.01  # pause while the peer does not read


def steps(reply: Rope | BodyStream) -> Iterator[list[Piece]]:
    """The pieces of each step, with their length prefixes."""
    step: list[Piece] = []
    size = 0
    for piece in _pieces(reply):
        step.append(piece)
        size += len(piece)
        if size >= STEP_BYTES:
            yield step
            step, size = [], 0
    if step:
        yield step


def _pieces(reply: Rope | BodyStream) -> Iterator[Piece]:
    if isinstance(reply, BodyStream):
        yield from map(length_prefixed, reply.messages())
        return
    yield PREFIX.pack(0, reply.size)
    yield from reply.slices(STEP_BYTES)
