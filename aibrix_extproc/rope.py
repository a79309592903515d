"""A large body in the pieces in which it came. Joining it would block the event loop while it is copied."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

Piece = bytes | bytearray | memoryview
# Larger bodies are ropes. Smaller ones are joined and read at once; the worst JSON of this size takes 4 ms.
LARGE_BYTES: Final = 1024 * 1024


class Rope(msgspec.Struct, frozen=True, gc=False):
    """Bytes in pieces. Only `joined` and `head` copy. Everything is linear in the number of pieces."""

    pieces: tuple[Piece, ...]
    size: int

    def __len__(self) -> int:
        return self.size

    def joined(self) -> bytes:
        """All bytes in one piece."""
        return b"".join(self.pieces)

    def head(self, size: int) -> bytes:
        """The first bytes."""
        return b"".join(_between(self.pieces, 0, min(size, self.size)))

    def slices(self, largest: int) -> Iterator[memoryview]:
        """All bytes from front to back, in pieces of at most this size."""
        for piece in self.pieces:
            view = memoryview(piece)
            for start in range(0, len(view), largest):
                yield view[start : start + largest]


def rope_of(pieces: Iterable[Piece]) -> Rope:
    """A rope of these pieces; empty ones are left out."""
    kept = tuple(piece for piece in pieces if piece)
    return Rope(kept, sum(map(len, kept)))


def cut(rope: Rope, *bounds: int) -> list[list[Piece]]:
    """The pieces between each two neighbours of ascending offsets, found in one pass."""
    found: list[list[Piece]] = [[] for _ in bounds[1:]]
    at = 0
    part = 0
    for piece in rope.pieces:
        end = at + len(piece)
        while part < len(found) and bounds[part + 1] <= at:
            part += 1
        index = part
        while index < len(found) and bounds[index] < end:
            start, stop = max(bounds[index], at), min(bounds[index + 1], end)
            if start < stop:
                whole = start == at and stop == end
                found[index].append(piece if whole else memoryview(piece)[start - at : stop - at])
            index += 1
        at = end
    return found


def _between(pieces: tuple[Piece, ...], start: int, end: int) -> list[Piece]:
    return cut(Rope(pieces, 0), start, end)[0]
