"""What a scorer remembers of pools that come again, in bounded memory."""

from collections.abc import Callable, Sized
from typing import Final, Generic, TypeVar

from aibrix_extproc.core.routing.pool import Pool

Memory = TypeVar("Memory", bound=Sized)

MAX_ENDPOINTS: Final = 250_000  # in all pools together that one scorer remembers, a few hundred bytes each


class Kept(Generic[Memory]):
    """One memory for each key of a pool; all are dropped when they become too large, and those in use made anew."""

    def __init__(self, make: Callable[[], Memory]) -> None:
        self._make = make
        self._by_key: dict[str, Memory] = {}

    def of(self, pool: Pool) -> Memory:
        """The memory of a pool that has a key; an empty one the first time."""
        memory = self._by_key.get(pool.key)
        return self._new(pool) if memory is None else memory

    def _new(self, pool: Pool) -> Memory:
        if len(pool.endpoints) + sum(map(len, self._by_key.values())) > MAX_ENDPOINTS:
            self._by_key.clear()
        memory = self._by_key[pool.key] = self._make()
        return memory
