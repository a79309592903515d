"""Which batch is worked on next: callers take turns, and so do the batches of a caller."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


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
