"""What a connection tells whoever answers on it."""

from typing import Protocol

from aibrix_extproc.adapters.extproc.lean.blocks import HeaderList


class Listener(Protocol):
    """Who is told what a peer has said. May answer from inside these calls."""

    def opened(self, stream_id: int, headers: HeaderList, *, ended: bool) -> None:
        """A stream with its request headers."""

    def received(self, stream_id: int, data: bytes, *, ended: bool) -> None:
        """A piece of the request's body; an empty one only if it ends it."""

    def ended(self, stream_id: int, code: int) -> None:
        """The stream is over before it was finished by both sides."""
