"""Slots of a model's engines, from the load, from what engines show of themselves, and from who is on the way."""

from collections import Counter
from collections.abc import Callable, Iterable

from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.routing.queue.shares import Room
from aibrix_extproc.core.routing.queue.slots import Slots


class Rooms:
    """`fixed`: requests that each engine shall have at once; None: learned. `clock`: monotonic seconds."""

    def __init__(
        self, fixed: int | None, store: FleetStore, load: LoadBook, gauges: GaugeBook, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._load = load
        self._gauges = gauges
        self._clock = clock
        self._slots = Slots(fixed)
        self._granted: Counter[str] = Counter()  # by endpoint: requests on their way, not in the load yet
        self._known: dict[str, tuple[Snapshot, float]] = {}  # by model: its slots when they were last counted

    def is_quiet(self, model: str) -> bool:
        """Whether over half of the model's slots are free for sure; it costs next to nothing."""
        known = self._known.get(model)
        return known is not None and known[0] is self._store.snapshot and 2 * self._load.total() < known[1]

    def of(self, model: str) -> tuple[Room, frozenset[str]] | None:
        """Slots of the model's ready engines, and which of these are full; None if that is not known."""
        now, in_flight, granted = self._clock(), self._load.in_flight, self._granted
        free = slots = 0.0
        full: list[str] = []
        for endpoint in self._store.snapshot.ready_by_model.get(model, ()):
            identity = endpoint.identity
            reading = self._gauges.of(identity)
            if reading is not None:
                self._slots.read(identity, reading)
            limit = self._slots.of(identity, endpoint.max_sequences)
            if limit is None:
                return None
            left = limit - self._gauges.requests(identity, in_flight(identity) + granted[identity], now)
            slots += limit
            if left < 1:
                full.append(identity)
            else:
                free += left
        if not slots:
            return None
        self._known[model] = self._store.snapshot, slots
        return Room(free, slots), frozenset(full)

    def grant(self, identity: str) -> None:
        """A request is on its way to an endpoint."""
        self._granted[identity] += 1

    def release(self, identity: str) -> None:
        """It is in the load now, or its client has left."""
        self._granted[identity] -= 1
        if self._granted[identity] <= 0:
            del self._granted[identity]

    def forget(self, identities: Iterable[str]) -> None:
        """Endpoints are gone."""
        for identity in identities:
            self._slots.forget(identity)
        self._known.clear()
