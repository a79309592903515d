"""The messages of the control feed between a gateway and the metadata service, and how rows look on the way.

A gateway asks for what changed since the version that it has; the service answers at once if something did, and
otherwise waits for a change. Each process of a gateway is a replica of its own.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from aibrix_extproc.core.control.rows import Page, Row

FEED_PATH: Final = "/internal/control/v1/feed"
FEED_KIND: Final = "control_feed"  # of signed message
REPORT_PATH: Final = "/internal/control/v1/report"
REPORT_KIND: Final = "control_report"
MAX_WAIT_SECONDS: Final = 20.0  # for a change
MAX_REPLICA: Final = 128
MAX_IN_FLIGHT: Final = 10_000  # endpoints of a report


class FeedRequest(msgspec.Struct, frozen=True):
    """The version that a gateway has, and how long it waits. `nonce` is random, so that no older answer fits."""

    nonce: str
    history: str = ""
    since: int = 0
    restarting: bool = False  # it has not had the last page of a restart
    wait_seconds: float = 0.0


class Report(msgspec.Struct, frozen=True):
    """The version that a gateway has applied, and its exchanges at endpoints, by identity.

    `in_flight`: exchanges with each cordoned endpoint. `usage`, of endpoints of models with a policy: exchanges in
    flight, and seconds since the last one ended.
    """

    applied_version: int
    in_flight: dict[str, int] = {}
    usage: dict[str, tuple[int, float]] = {}


class _WireRow(msgspec.Struct, frozen=True, gc=False, array_like=True):
    section: str
    id: str
    version: int
    data: msgspec.Raw  # `null`: removed


class _WirePage(msgspec.Struct, frozen=True, gc=False):
    history: str
    version: int
    rows: tuple[_WireRow, ...]
    more: bool = False
    restart: bool = False


_NULL: Final = msgspec.Raw(b"null")
_ENCODER: Final = msgspec.json.Encoder()
_PAGES: Final = msgspec.json.Decoder(_WirePage)
_REQUESTS: Final = msgspec.json.Decoder(FeedRequest)
_REPORTS: Final = msgspec.json.Decoder(Report)


def encode_page(page: Page) -> bytes:
    """The page as one line of JSON."""
    rows = tuple(_WireRow(row.section, row.id, row.version, row.data or _NULL) for row in page.rows)
    return _ENCODER.encode(_WirePage(page.history, page.version, rows, page.more, page.restart))


def decode_page(content: bytes) -> Page:
    """The page. Raises ValueError for anything else."""
    found = _PAGES.decode(content)
    rows = tuple(Row(row.section, row.id, row.version, _data(row.data)) for row in found.rows)
    return Page(found.history, found.version, rows, found.more, found.restart)


def decode_request(content: bytes) -> FeedRequest:
    """The request. Raises ValueError."""
    return _REQUESTS.decode(content)


def decode_report(content: bytes) -> Report:
    """The report. Raises ValueError, also for one that is too long."""
    found = _REPORTS.decode(content)
    if max(len(found.in_flight), len(found.usage)) > MAX_IN_FLIGHT:
        raise ValueError(f"a report names {MAX_IN_FLIGHT} endpoints at most")
    return found


def encode(message: FeedRequest | Report) -> bytes:
    """A message as JSON."""
    return _ENCODER.encode(message)


def merged(pages: Iterable[Page], rows_of_page: int) -> tuple[Page, ...]:
    """Pages that restart, and lead to the last complete state of all of these one after another; none if there is none.

    The pages of a restart whose last page is missing are left out: what they put would pass for a part of the state.
    """
    rows: dict[tuple[str, str], Row] = {}
    seen: set[tuple[str, str]] | None = None
    complete: tuple[str, int, tuple[Row, ...]] = ("", 0, ())
    history = ""
    for page in pages:
        if page.restart or page.history != history:
            if seen is None:
                complete = history, complete[1], tuple(rows.values())
            history, seen = page.history, set()
        for row in page.rows:
            rows[row.section, row.id] = row
            if seen is not None:
                seen.add((row.section, row.id))
        if seen is not None and not page.more:
            rows, seen = {name: row for name, row in rows.items() if name in seen}, None
        if seen is None:
            complete = history, page.version, ()
    if seen is None:
        complete = complete[0], complete[1], tuple(rows.values())
    return _restarting(*complete, rows_of_page) if complete[0] else ()


def _restarting(history: str, version: int, rows: Iterable[Row], rows_of_page: int) -> tuple[Page, ...]:
    kept = [row for row in rows if row.data is not None]
    starts = range(0, len(kept) or 1, rows_of_page)
    return tuple(
        Page(history, version, tuple(kept[start : start + rows_of_page]), start != starts[-1], start == 0)
        for start in starts
    )


def _data(raw: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(raw) == b"null" else raw
