"""A direction of an exchange: a phase, and a table of the events that may come and the phases they lead to."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Output
from aibrix_extproc.core.exchange.states import ProtocolViolation, RequestPhase, ResponsePhase

AnyPhase = TypeVar("AnyPhase", bound=RequestPhase | ResponsePhase)


class Direction(ABC, Generic[AnyPhase]):
    """One direction. Subclasses implement `_step`."""

    def __init__(self, name: str, phase: AnyPhase, table: Mapping[tuple[AnyPhase, type], frozenset[AnyPhase]]) -> None:
        self._name = name
        self._phase = phase
        self._table = table

    def receive(self, event: events.Event) -> tuple[Output, ...]:
        """Take one event. Raises ProtocolViolation, changing nothing, for one that the table does not list."""
        allowed = self._table.get((self._phase, type(event)))
        if allowed is None:
            raise ProtocolViolation(f"{type(event).__name__} while the {self._name} is {self._phase}")
        phase, outputs = self._step(event)
        if phase not in allowed:
            raise AssertionError(f"{phase} is no successor of {self._phase} by {type(event).__name__}")
        self._phase = phase
        return outputs

    @abstractmethod
    def _step(self, event: events.Event) -> tuple[AnyPhase, tuple[Output, ...]]:
        """What follows from an event that the table lists."""
