"""Which batch is worked on next: callers take turns, and so do the batches of a caller."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SHARDS_OF_A_KIND: Final = 4  # of one caller for one model; more would not make engines busier
SHARDS_BEFORE_OTHERS: Final = 16  # beyond, only kinds of which none runs get a place
MOST_SHARDS: Final = 32  # of one process: each holds up to 8 MiB of lines


@dataclass(frozen=True, slots=True)
class Kind:
    """The batches of one caller for one model. They wait for the same engines, which may be busy or gone."""

    caller: str
    model: str


class Places:
    """The shards that one process runs. A model that answers nothing for hours must not hold the place of another."""

    def __init__(self) -> None:
        self._running: Counter[Kind] = Counter()

    def take(self, kind: Kind) -> None:
        """A shard begins."""
        self._running[kind] += 1

    def leave(self, kind: Kind) -> None:
        """A shard has ended."""
        self._running[kind] -= 1
        if not self._running[kind]:
            del self._running[kind]

    def full(self) -> list[Kind]:
        """The kinds of which no further shard should begin now."""
        most = SHARDS_OF_A_KIND if self._running.total() < SHARDS_BEFORE_OTHERS else 1
        return [kind for kind, count in self._running.items() if count >= most]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch of which a shard could run now. Times are seconds since the epoch; 0: never."""

    batch: str
    caller: str
    created_at: float
    batch_served_at: float  # when a shard of the batch was begun last
    caller_served_at: float  # when a shard of any batch of the caller was begun last


def in_turn(candidates: Iterable[Candidate], running: Mapping[tuple[str, str], int]) -> list[Candidate]:
    """The candidates in the order in which they should be served.

    `running` counts shards that run now, by caller and batch. First comes the caller for whom fewest run, of these the
    one who has waited longest; then likewise the batch.
    """
    by_caller: Counter[str] = Counter()
    for (caller, _), count in running.items():
        by_caller[caller] += count

    def place(one: Candidate) -> tuple[float, ...]:
        here = running.get((one.caller, one.batch), 0)
        return by_caller[one.caller], one.caller_served_at, here, one.batch_served_at, one.created_at

    return sorted(candidates, key=place)
