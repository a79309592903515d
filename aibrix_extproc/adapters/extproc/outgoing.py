"""What goes to Envoy: small messages at once, large ones and long rows of messages a piece at a time."""

from collections.abc import Iterator
from typing import Final, TypeGuard

from aibrix_extproc.adapters.extproc import codec
from aibrix_extproc.core.exchange.outputs import Phase
from aibrix_extproc.rope import Rope

PIECE_BYTES: Final = 62_000  # of a body in one message: below gRPC's and other data planes' limits of 64 KiB


class BodyStream:
    """A large body as FULL_DUPLEX_STREAMED wants it: many messages, each made when it is its turn."""

    __slots__ = ("_body", "_end", "_phase")

    def __init__(self, phase: Phase, body: Rope, *, end: bool) -> None:
        self._phase = phase
        self._body = body
        self._end = end  # the last piece ends the body

    def messages(self) -> Iterator[bytes]:
        """The messages, serialised."""
        left = self._body.size
        for piece in self._body.slices(PIECE_BYTES):
            left -= len(piece)
            yield codec.encode_piece(self._phase, bytes(piece), end=self._end and not left)


Outgoing = bytes | Rope | BodyStream
"""A message, a message in pieces, or a row of messages."""


def all_small(replies: list[Outgoing]) -> TypeGuard[list[bytes]]:
    """Whether all can be sent in this turn of the loop."""
    return all(type(reply) is bytes for reply in replies)


def whole_messages(replies: list[Outgoing]) -> Iterator[bytes]:
    """All messages, whole."""
    for reply in replies:
        if isinstance(reply, BodyStream):
            yield from reply.messages()
        else:
            yield reply.joined() if isinstance(reply, Rope) else reply
