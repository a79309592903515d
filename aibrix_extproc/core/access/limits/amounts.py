"""The amounts that can be limited: one table with a row for each name that a limit may have.

Requests, tokens, bytes and audio are limited by buckets that fill steadily: 600 a minute is a bucket of 600 that gains
ten a second. Budgets count from the beginning of a calendar day, week or month in UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

MICRO: Final = 1_000_000


class Quantity(StrEnum):
    """The unit that is counted."""

    __hash__ = str.__hash__

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOKENS = "tokens"  # input and output together
    BYTES = "bytes"  # of request bodies
    AUDIO_SECONDS = "audio_seconds"
    COST = "cost"  # money, by the prices of models
    CONCURRENT_REQUESTS = "concurrent_requests"
    ENQUEUED_TOKENS = "enqueued_tokens"  # of batches that have not ended; the metadata service counts them


class Reset(StrEnum):
    """The way in which used amounts come back."""

    FILLS = "fills"  # steadily, within the period
    CALENDAR = "calendar"  # at the end of the period
    RELEASED = "released"  # when the request ends
    ENDED = "ended"  # when the batch ends


@dataclass(frozen=True, slots=True)
class AmountRow:
    """One name of the table."""

    quantity: Quantity
    reset: Reset
    period: str = ""  # minute, hour, day, week, month; empty for what is released
    seconds: int = 0  # of the period, 0 for a calendar month
    units: int = 1  # the counter's units in one; counters hold whole units
    maximum: int = 10**12  # a larger amount is taken for a mistake

    @property
    def whole(self) -> bool:
        """Whether the amount must be a whole number."""
        return self.units == 1


_SECONDS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_MILLI: Final = 1000
_FILLING: Final = {
    Quantity.REQUESTS: 1,
    Quantity.INPUT_TOKENS: 1,
    Quantity.OUTPUT_TOKENS: 1,
    Quantity.TOKENS: 1,
    Quantity.BYTES: 1,
    Quantity.AUDIO_SECONDS: _MILLI,
}
_BUDGETS: Final = {"day": 86_400, "week": 7 * 86_400, "month": 0}

AMOUNTS: Final[Mapping[str, AmountRow]] = MappingProxyType(
    {
        **{
            f"{quantity}_per_{period}": AmountRow(quantity, Reset.FILLS, period, seconds, units, 10**15 // units)
            for quantity, units in _FILLING.items()
            for period, seconds in _SECONDS.items()
        },
        "concurrent_requests": AmountRow(Quantity.CONCURRENT_REQUESTS, Reset.RELEASED, maximum=10**6),
        **{
            f"budget_per_{period}": AmountRow(Quantity.COST, Reset.CALENDAR, period, seconds, MICRO, 10**9)
            for period, seconds in _BUDGETS.items()
        },
        "batch_enqueued_tokens": AmountRow(Quantity.ENQUEUED_TOKENS, Reset.ENDED, maximum=10**15),
    }
)
