"""Large answers as pieces for the wire, so many in one turn of the loop that others wait a millisecond or two."""

from collections.abc import Iterator
from typing import Final

from aibrix_extproc.adapters.extproc.outgoing import BodyStream
from aibrix_extproc.http2.deframer import PREFIX, length_prefixed
from aibrix_extproc.rope import Piece, Rope

STEP_BYTES: Final = 256 * 1024
CONGESTED_SECONDS: Final = 0.01  # until the peer is looked at again


def steps(reply: Rope | BodyStream) -> Iterator[list[Piece]]:
    """Pieces to be sent in one turn, with their length prefix, and then those of the next."""
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
