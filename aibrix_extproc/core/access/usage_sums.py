"""Sums of usage records by time, caller, key, model and operation."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.access.usage import UsageRecord

MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400
ROLLED_UP: Final = (HOUR, DAY)  # widths of which sums are kept


@dataclass(frozen=True, slots=True)
class Series:
    """The key of a sum."""

    caller: str
    key_id: str
    model: str
    operation: str
    batch: bool

    @property
    def digest(self) -> str:
        """A short name of the series; texts of any characters may stand in it."""
        parts = (self.caller, self.key_id, self.model, self.operation, str(self.batch))
        return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Sums:
    """The cost of all exchanges of a series together."""

    requests: int = 0
    failed: int = 0  # without a success that the client saw
    estimated: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    audio_seconds: float = 0.0

    def plus(self, record: UsageRecord) -> "Sums":
        """These and one more record."""
        return Sums(
            self.requests + 1,
            self.failed + (not 200 <= record.status < 300),
            self.estimated + record.estimated,
            self.input_tokens + record.input_tokens,
            self.cached_tokens + record.cached_tokens,
            self.output_tokens + record.output_tokens,
            self.reasoning_tokens + record.reasoning_tokens,
            self.audio_seconds + record.audio_seconds,
        )


_NONE: Final = Sums()


def series_of(record: UsageRecord) -> Series:
    """The series of a record."""
    return Series(record.caller, record.key_id, record.model, record.operation, bool(record.batch_id))


def summed(records: Iterable[UsageRecord], width: int) -> dict[tuple[int, Series], Sums]:
    """The sums of records by the start of their bucket, in seconds since the epoch, and their series."""
    found: dict[tuple[int, Series], Sums] = {}
    for record in records:
        place = record.wall_at - record.wall_at % width, series_of(record)
        found[place] = found.get(place, _NONE).plus(record)
    return found
