"""What a scorer is: a name, what it needs, and numbers for endpoints.

A scorer module knows this file, the query, the pool and the signals, never another scorer. It is pure: counters and
chance are handed in, so that a placement can be replayed. It is made once for a process, so it may have memory.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.best import best
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.signals import Need, Signals

NO_DETAILS: Final[Mapping[str, Sequence[float]]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that a scorer can be told, for the reference page."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """How a strategy is called, what it needs, and what its page in the reference says."""

    name: str  # what the setting, the profile and the header routing-strategy say
    intent: str  # one line
    needs: frozenset[Need]  # only these signals are produced for it
    parameters: tuple[Input, ...] = field(default=())


class Scorer(Protocol):
    """Gives numbers to endpoints, alone or as a part of a combination."""

    def scores(self, query: RouteQuery, pool: Pool, signals: Signals) -> Sequence[float]:
        """One number in [0, 1] for each endpoint of the pool, in its order; the highest is the best."""
        ...

    def rank(self, query: RouteQuery, pool: Pool, signals: Signals, limit: int) -> tuple[Endpoint, ...]:
        """The best `limit` endpoints, best first, where this scorer decides alone.

        By the scores, equal ones in turn, which needs a tick. A scorer that finds them without looking at each
        endpoint has a method of its own.
        """
        return best(self.scores(query, pool, signals), pool.endpoints, signals.tick, limit)

    def explain(self, query: RouteQuery, pool: Pool, signals: Signals) -> Mapping[str, Sequence[float]]:
        """The numbers behind the scores by name and unit, one for each endpoint of the pool; for decision records.

        Optional. It is called right after `scores` or `rank` with the same arguments, for every request, so it returns
        what they have computed and kept. `record.PREDICTED_TTFT` and `PREDICTED_CACHED` are compared with what came.
        """
        return NO_DETAILS

    # All of these leave no trace: a dry run calls them too. What was placed is told to who counts it by other ways.


@dataclass(frozen=True, slots=True)
class Strategy:
    """A row of the registry."""

    spec: ScorerSpec
    make: Callable[[], Scorer]  # the class; its docstring is the page in the reference

    @property
    def reference(self) -> str:
        """The paragraph for the reference page: what it does, when to use it, its limits."""
        return inspect.cleandoc(self.make.__doc__ or "")
