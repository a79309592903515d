"""Counts the load of engines, and describes it for workers of batches, which leave room for all other requests."""

from collections.abc import Callable

from aibrix_extproc.core.batches.engine_load import EngineLoadReport, written
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Moved
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Snapshot


class LoadCount:
    """Keeps the books of load by what happens to exchanges: one of all, and one of those that are lines of batches."""

    def __init__(self, all_load: LoadBook, batch_load: LoadBook) -> None:
        self._all = all_load
        self._of_batches = batch_load

    def assigned(self, fact: Assigned) -> None:
        """An endpoint gets an exchange."""
        for book in self._books(fact):
            book.acquire(fact.identity)

    def moved(self, fact: Moved) -> None:
        """Another endpoint has it."""
        for book in self._books(fact):
            book.release(fact.from_identity)
            book.acquire(fact.to_identity)

    def finished(self, fact: Finished) -> None:
        """It is over."""
        if fact.assigned_to is not None:
            for book in self._books(fact):
                book.release(fact.assigned_to)

    def _books(self, fact: Assigned | Moved | Finished) -> tuple[LoadBook, ...]:
        return (self._all, self._of_batches) if fact.batch else (self._all,)


class EngineLoad:
    """`name` is this process' own, so that a worker can add up what several gateways report."""

    def __init__(self, snapshot: Callable[[], Snapshot], load: LoadBook, batch_load: LoadBook, name: str) -> None:
        self._snapshot = snapshot
        self._load = load
        self._batch_load = batch_load
        self._name = name

    def describe(self, model: str) -> str:
        """The header's value: requests that this process has with the ready engines of the model."""
        engines = self._snapshot().ready_by_model.get(model, ())
        others = sum(self._load.in_flight(one.identity) - self._batch_load.in_flight(one.identity) for one in engines)
        return written(EngineLoadReport(self._name, others, len(engines)))
