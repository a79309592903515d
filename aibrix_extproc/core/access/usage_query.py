"""Questions about usage in OpenAI's form: a span of time in buckets, grouped and filtered, page by page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.access.usage_sums import DAY, HOUR, MINUTE
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.refusals import out_of_range, unsupported

Pairs = Sequence[tuple[str, str]]
"""The parameters of a query, in their order; a name may come several times."""

_INTEGER: Final = re.compile(r"-?[0-9]{1,12}")
_LATEST: Final = 253_402_300_799  # the last second of the year 9999
_PAGE: Final = re.compile(r"page_([0-9]{1,12})")
MAX_VALUES: Final = 100  # of one filter
WIDTHS: Final[Mapping[str, int]] = MappingProxyType({"1m": MINUTE, "1h": HOUR, "1d": DAY})
# By width: buckets in a page if the query names no number, and at most.
LIMITS: Final[Mapping[int, tuple[int, int]]] = MappingProxyType({MINUTE: (60, 1440), HOUR: (24, 168), DAY: (7, 31)})
# A parameter that filters -> the field that it is about. Nothing here has a project.
FILTERS: Final[Mapping[str, str]] = MappingProxyType(
    {"models": "model", "api_key_ids": "api_key_id", "user_ids": "user_id", "project_ids": "project_id"}
)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Buckets from `start` to before `end` that a page shows; times are seconds since the epoch."""

    start: int  # of the first bucket
    end: int  # usage from this moment on does not count
    width: int
    limit: int  # buckets in the page
    group_by: tuple[str, ...] = ()
    # Field -> values of which a record has one.
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    batch: bool | None = None

    @property
    def page_end(self) -> int:
        """Behind the last bucket of the page."""
        return min(self.start + self.limit * self.width, self.end)

    @property
    def has_more(self) -> bool:
        """Whether buckets follow the page."""
        return self.page_end < self.end

    def starts(self) -> range:
        """The starts of the page's buckets."""
        return range(self.start, self.page_end, self.width)


@dataclass(frozen=True, slots=True)
class Form:
    """The parameters that an operation takes."""

    groups: tuple[str, ...]
    widths: tuple[str, ...] = tuple(WIDTHS)
    largest: int | None = None  # buckets in a page, if not as in LIMITS
    default_days: int | None = None  # up to now, today is one, where a query may leave out its start


def read_query(pairs: Pairs, form: Form, wall_now: float) -> UsageQuery | Problem:
    """The query, or what is wrong with it. The first bucket is the one that `start_time` is in."""
    values = _values(pairs)
    width = _one(values, "bucket_width") or "1d"
    if width not in form.widths:
        return unsupported("bucket_width", width, form.widths)
    seconds = WIDTHS[width]
    times = _times(values, form, wall_now, seconds)
    if isinstance(times, Problem):
        return times
    limit = _limit(values, seconds, form)
    if isinstance(limit, Problem):
        return limit
    groups = tuple(dict.fromkeys(values.get("group_by", ())))
    unknown = next((one for one in groups if one not in form.groups), None)
    if unknown is not None:
        return unsupported("group_by", unknown, form.groups)
    batch = _one(values, "batch")
    if batch not in ("", "true", "false"):
        return unsupported("batch", batch, ("true", "false"))
    filters = {field: values[name] for name, field in FILTERS.items() if name in values}
    many = next((name for name in FILTERS if len(values.get(name, ())) > MAX_VALUES), None)
    if many is not None:
        return _invalid(many, f"Invalid '{many}': at most {MAX_VALUES} values can be given.")
    return UsageQuery(*times, seconds, limit, groups, filters, batch == "true" if batch else None)


def page_name(start: int) -> str:
    """The cursor of the page that begins with this bucket."""
    return f"page_{start}"


def _values(pairs: Pairs) -> dict[str, tuple[str, ...]]:
    """All values by name; SDKs write lists as `name[]`. Empty ones count as absent."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if value:
            name = name.removesuffix("[]")
            found[name] = (*found.get(name, ()), value)
    return found


def _one(values: Mapping[str, tuple[str, ...]], name: str) -> str:
    return values.get(name, ("",))[-1]


def _times(values: Mapping[str, tuple[str, ...]], form: Form, wall_now: float, width: int) -> tuple[int, int] | Problem:
    start, end = _time(values, "start_time"), _time(values, "end_time")
    for one in (start, end):
        if isinstance(one, Problem):
            return one
    if start is None and form.default_days is not None:
        start = int(wall_now) - (form.default_days - 1) * DAY
    if not isinstance(start, int) or isinstance(end, Problem):
        return Problem("missing_required_parameter", {"param": "start_time"}, param="start_time")
    latest = int(wall_now) + 1
    end = latest if end is None else end
    if end <= start:
        return _invalid("end_time", "Invalid 'end_time': it must be after 'start_time'.")
    first, end = start - start % width, min(end, max(latest, start + 1))
    page = _one(values, "page")
    if page:
        matched = _PAGE.fullmatch(page)
        at = int(matched[1]) if matched else -1
        if not first <= at < end or at % width:
            return _invalid("page", "Invalid 'page': it is no cursor of this query.")
        first = at
    return first, end


def _time(values: Mapping[str, tuple[str, ...]], name: str) -> int | Problem | None:
    given = _one(values, name)
    if not given:
        return None
    if _INTEGER.fullmatch(given) is None:
        return Problem("invalid_type", {"param": name, "expected": "an integer", "got": "a string"}, param=name)
    if not 0 <= int(given) <= _LATEST:
        return out_of_range(name, int(given), 0, _LATEST)
    return int(given)


def _limit(values: Mapping[str, tuple[str, ...]], width: int, form: Form) -> int | Problem:
    default, most = LIMITS[width]
    most = form.largest or most
    given = _one(values, "limit")
    if given and _INTEGER.fullmatch(given) is None:
        return Problem("invalid_type", {"param": "limit", "expected": "an integer", "got": "a string"}, param="limit")
    limit = int(given) if given else default
    return limit if 1 <= limit <= most else out_of_range("limit", limit, 1, most)


def _invalid(param: str, message: str) -> Problem:
    return Problem("invalid_value", {"message": message}, param=param)
