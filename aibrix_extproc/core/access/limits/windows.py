"""Calendar windows of budgets, in UTC."""

from typing import Final

from aibrix_extproc.core.access.limits.counters import EPOCH

_DAY: Final = 86_400
_MONDAY: Final = 3 * _DAY  # the epoch of Unix was a Thursday


def window_of(period: str, now: float) -> tuple[str, float]:
    """The name of the window in which a time is, and its end. Times are microseconds since EPOCH."""
    seconds = int(now // 1e6) + EPOCH
    if period == "week":
        start = (seconds + _MONDAY) // (7 * _DAY) * (7 * _DAY) - _MONDAY
        return f"w{start // _DAY}", (start + 7 * _DAY - EPOCH) * 1e6
    days = seconds // _DAY
    if period == "day":
        return f"d{days}", ((days + 1) * _DAY - EPOCH) * 1e6
    year, month = _month_of(days)
    after = (year + 1, 1) if month == 12 else (year, month + 1)
    return f"m{year}-{month:02}", (_days_before(*after) * _DAY - EPOCH) * 1e6


def _month_of(days: int) -> tuple[int, int]:
    """Year and month of a day since 1970-01-01."""
    year = 1970 + days * 400 // 146_097
    while _days_before(year + 1, 1) <= days:
        year += 1
    while _days_before(year, 1) > days:
        year -= 1
    month = next(month for month in range(12, 0, -1) if _days_before(year, month) <= days)
    return year, month


def _days_before(year: int, month: int) -> int:
    """Days from 1970-01-01 to the first of a month (proleptic Gregorian calendar)."""
    before = year - 1
    leaps = before // 4 - before // 100 + before // 400 - 477  # of the years before 1970
    days = (year - 1970) * 365 + leaps
    lengths = (31, 29 if year % 4 == 0 and (year % 100 or year % 400 == 0) else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30)
    return days + sum(lengths[: month - 1])
