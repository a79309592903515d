"""What a strategy is: a name, what it is for, what it reads, and the function that ranks.

A strategy module knows this file and the query, never another strategy. Its `rank` is pure: the shell hands in a
counter and a random number, so that a placement can be replayed.
"""

import inspect
from dataclasses import dataclass, field
from typing import Protocol

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Load, RouteQuery


class Rank(Protocol):
    """Endpoints best first, at most `limit` of them, none twice; `endpoints` is never empty."""

    __doc__: str | None

    def __call__(
        self,
        query: RouteQuery,
        endpoints: tuple[Endpoint, ...],
        load: Load,
        *,
        tick: int,
        dice: float,
        limit: int,
    ) -> tuple[Endpoint, ...]:
        """Rank; the docstring of the function itself is its page in the reference."""
        ...


@dataclass(frozen=True, slots=True)
class Input:
    """One thing that a strategy reads, for the reference page."""

    name: str
    meaning: str


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """How a strategy is called and what its page in the reference says."""

    name: str  # what the setting and the header routing-strategy say
    intent: str  # one line
    inputs: tuple[Input, ...] = ()
    parameters: tuple[Input, ...] = field(default=())
    keeps_sessions: bool = False  # reads RouteQuery.session, and the client is told it


@dataclass(frozen=True, slots=True)
class Strategy:
    """A row of the registry."""

    spec: StrategySpec
    rank: Rank

    @property
    def reference(self) -> str:
        """The paragraph for the reference page: what it does, when to use it, its limits."""
        return inspect.cleandoc(self.rank.__doc__ or "")
