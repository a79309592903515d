"""The one mutable cell that holds the fleet: writers post changes, readers take the snapshot of the moment.

Everything happens on the event loop of one thread, so there is no lock; a reader keeps the snapshot it started with.
"""

import asyncio
from collections.abc import Callable, Iterable

from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.model import Endpoint, Snapshot
from aibrix_extproc.core.fleet.reduce import Change, Cordoned, Fleet, Observed

Subscriber = Callable[[Snapshot], None]
ChangeSubscriber = Callable[[tuple[Pair, ...], Snapshot], None]


class FleetStore:
    """Applies changes and calls subscribers with each new snapshot."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._fleet = Fleet(sources)
        self._given: list[Callable[[], None]] = []
        self._changes: list[ChangeSubscriber] = []
        self._subscribers: dict[object, Subscriber] = {}
        self._known = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as of now."""
        return self._fleet.snapshot

    @property
    def known(self) -> bool:
        """True once every source has listed and every endpoint was asked once, whatever it answered."""
        return self._fleet.snapshot.known

    @property
    def askable(self) -> tuple[Endpoint, ...]:
        """The endpoints whose engines are worth asking."""
        return tuple(self._fleet.askable.values())

    def apply(self, change: Change) -> None:
        """Fold one change in; subscribers hear of it only when readers would see a difference."""
        before = self._fleet.snapshot
        pairs = self._fleet.apply(change)
        after = self._fleet.snapshot
        if after is before:
            return
        if after.known:
            self._known.set()
        for notify in self._changes:
            notify(pairs, after)
        if not isinstance(change, Observed | Cordoned):
            for wake in self._given:
                wake()
        for subscriber in tuple(self._subscribers.values()):
            subscriber(after)

    def subscribe_changes(self, subscriber: ChangeSubscriber) -> None:
        """Call `subscriber` with the endpoints that differ, before and after, and the new snapshot.

        For subscribers whose work shall not grow with the fleet.
        """
        self._changes.append(subscriber)

    def subscribe_given(self, subscriber: Callable[[], None]) -> None:
        """Call `subscriber` when sources give other endpoints than before, and not when engines answer otherwise."""
        self._given.append(subscriber)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with each new snapshot, synchronously; the result ends the subscription."""
        ticket = object()  # not the function itself: the same one may subscribe twice
        self._subscribers[ticket] = subscriber

        def end() -> None:
            self._subscribers.pop(ticket, None)

        return end

    async def wait_known(self) -> Snapshot:
        """Wait for the first known fleet."""
        await self._known.wait()
        return self.snapshot
