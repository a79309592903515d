"""The reader of large bodies: a process that is started with the first of them and ended with ours."""

import asyncio

from aibrix_extproc.adapters.bodyreader.reader import DEADLINE_SECONDS, BodyReader
from aibrix_extproc.app.parts.part import Meters, Part


class LargeBodies(Part):
    """Owns the reader."""

    name = "large_bodies"

    def __init__(self, media_hosts: tuple[str, ...], longest_wait_seconds: float) -> None:
        """`longest_wait_seconds`: how long Envoy's message may wait."""
        deadline_seconds = min(DEADLINE_SECONDS, longest_wait_seconds)
        self.reader = BodyReader(media_hosts=media_hosts, deadline_seconds=deadline_seconds)

    async def run(self) -> None:
        """Wait until cancelled, then end the reader's process."""
        try:
            await asyncio.Event().wait()
        finally:
            self.reader.stop()

    def register(self, metrics: Meters) -> None:
        """Gauges of the bodies that are read or wait."""
        metrics.gauge("aibrix_extproc_large_bodies", lambda: self.reader.waiting)
