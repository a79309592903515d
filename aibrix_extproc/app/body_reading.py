"""Reads the bodies that are too long for one turn of the loop: forms in time slices, large JSON in another process."""

from collections.abc import Awaitable

from aibrix_extproc.adapters.bodyreader.reader import BodyReader
from aibrix_extproc.app.time_slices import TimeSlices
from aibrix_extproc.core.exchange.asks import BodyRead, Read, ReadLarge, Refused


class BodyReading:
    """Owns the turns of the time slices; the reader's process belongs to its part."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self._slices = TimeSlices()
        self.large_seconds = reader.deadline_seconds

    def read(self, ask: Read) -> Awaitable[BodyRead]:
        """Take the steps of a long body, with turns for everything else between them."""
        return self._slices.run(ask.step)

    def read_large(self, ask: ReadLarge) -> Awaitable[BodyRead | Refused]:
        """Let the reader's process read a large body."""
        return self._reader.read(ask.body, sizes=ask.sizes, prefix_seed=ask.prefix_seed)
