"""What is sent to Envoy: serialised messages, and large bodies that are sent piece by piece."""

from collections.abc import Iterator
from typing import Final, TypeGuard

from aibrix_extproc.adapters.extproc import encoding
from aibrix_extproc.core.exchange.outputs import Phase
from aibrix_extproc.rope import Rope

PIECE_BYTES: Final = 62_000  # of a body in one message; gRPC and other data planes have limits of 64 KiB


class BodyStream:
    """A large body for FULL_DUPLEX_STREAMED: many messages, each made just before it is sent."""

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
            yield encoding.encode_piece(self._phase, bytes(piece), end=self._end and not left)


Outgoing = bytes | Rope | BodyStream
"""A message, a message in pieces, or a body of many messages."""


def all_small(replies: list[Outgoing]) -> TypeGuard[list[bytes]]:
    """Whether all of them can be sent in one turn of the loop."""
    return all(type(reply) is bytes for reply in replies)


def whole_messages(replies: list[Outgoing]) -> Iterator[bytes]:
    """All messages, each joined."""
    for reply in replies:
        if isinstance(reply, BodyStream):
            yield from reply.messages()
        else:
            yield reply.joined() if isinstance(reply, Rope) else reply
