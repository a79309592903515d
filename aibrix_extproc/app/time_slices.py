"""Long work on the event loop in time slices, with turns for everything else between them."""

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

Found = TypeVar("Found")


class TimeSlices:
    """Runs steps of a few milliseconds. However many jobs wait, a turn of the loop has one step; they take turns."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()  # first come, first served

    def run(self, step: Callable[[], Found | None]) -> Awaitable[Found]:
        """Call `step` until it gives something else than None; not before somebody waits for it."""
        return _Job(self._turn, step)


class _Job(Generic[Found]):
    def __init__(self, turn: asyncio.Lock, step: Callable[[], Found | None]) -> None:
        self._turn = turn
        self._step = step

    def __await__(self) -> Generator[Any, Any, Found]:
        return self._run().__await__()

    async def _run(self) -> Found:
        while True:
            async with self._turn:
                await asyncio.sleep(0)  # this turn had a step already, or the message that brought the work
                found = self._step()
            if found is not None:
                return found
