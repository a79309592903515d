"""Folds rows into typed records, section by section, and tells subscribers what changed.

A row whose data cannot be read (one of a newer version of ours) changes nothing: the last good record stays in force,
and `unreadable` names it.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import msgspec

from aibrix_extproc.core.control.rows import Page, Row, Section

T = TypeVar("T")
MAX_UNREADABLE: Final = 1000  # that are named


class Changes(msgspec.Struct, Generic[T], frozen=True):
    """The effect of applying rows to a section: records that are new or different, and those that are gone."""

    put: Mapping[str, T]
    removed: Mapping[str, T]


OnChange = Callable[[Changes[T]], None]


class View(Generic[T]):
    """The records of one section by id. `records` is live: it changes when rows are applied."""

    def __init__(self, record: type[T]) -> None:
        self._decode = msgspec.json.Decoder(record).decode
        self._records: dict[str, T] = {}
        self._before: dict[str, T | None] = {}  # what the subscribers know of records that changed since
        self._subscribers: list[OnChange[T]] = []
        self.records: Mapping[str, T] = MappingProxyType(self._records)

    def subscribe(self, on_change: OnChange[T]) -> None:
        """Call this after each application of rows that changed the section."""
        self._subscribers.append(on_change)

    def fold(self, row: Row) -> None:
        """Take one row. Raises msgspec.DecodeError or ValueError for data that cannot be read."""
        if row.data is None:
            self.remove(row.id)
            return
        record = self._decode(row.data)
        self._before.setdefault(row.id, self._records.get(row.id))
        self._records[row.id] = record

    def remove(self, record_id: str) -> None:
        """Take one record out."""
        gone = self._records.pop(record_id, None)
        if gone is not None:
            self._before.setdefault(record_id, gone)

    def flush(self) -> None:
        """Tell the subscribers what has changed since the last time."""
        put: dict[str, T] = {}
        removed: dict[str, T] = {}
        for record_id, before in self._before.items():
            now = self._records.get(record_id)
            if now is not None:
                put[record_id] = now
            elif before is not None:
                removed[record_id] = before
        self._before = {}
        if put or removed:
            for subscriber in self._subscribers:
                subscriber(Changes(put, removed))


class ControlState:
    """All sections of one process. It has no lock: it belongs to one event loop."""

    def __init__(self) -> None:
        self._views: dict[str, View[Any]] = {}
        self._types: dict[str, type] = {}
        self._seen: dict[str, set[str]] | None = None  # ids since a restart that is not complete yet
        self.history = ""
        self.version = 0  # all changes up to this one are folded in
        self.unreadable: dict[tuple[str, str], str] = {}  # (section, id) -> reason

    def view(self, section: Section, record: type[T]) -> View[T]:
        """The records of a section. All views are asked for before the first rows come, with one type a section."""
        if self._types.setdefault(section, record) is not record:
            raise TypeError(f"the section {section} is read as {self._types[section].__name__} already")
        if section not in self._views:
            if self.version:
                raise RuntimeError(f"rows of the section {section} have passed already")
            self._views[section] = View(record)
        return self._views[section]

    @property
    def complete(self) -> bool:
        """Whether no part of a restart is outstanding."""
        return bool(self.history) and self._seen is None

    def apply(self, page: Page) -> None:
        """Fold a page in. After a restart records that the new history does not have are removed with its last page."""
        if page.restart or page.history != self.history:
            self.history, self._seen = page.history, {section: set() for section in self._views}
        for row in page.rows:
            self._fold(row)
        self.version = page.version
        if self._seen is not None and not page.more:
            self._remove_unseen(self._seen)
            self._seen = None
        for view in self._views.values():
            view.flush()

    def _fold(self, row: Row) -> None:
        view = self._views.get(row.section)
        if view is None:
            return
        name = row.section, row.id
        if self._seen is not None and row.data is not None:
            self._seen[row.section].add(row.id)
        try:
            view.fold(row)
            self.unreadable.pop(name, None)
        except (msgspec.DecodeError, ValueError) as error:
            if len(self.unreadable) < MAX_UNREADABLE:
                self.unreadable[name] = str(error)[:200]

    def _remove_unseen(self, seen: Mapping[str, set[str]]) -> None:
        for section, view in self._views.items():
            for record_id in view.records.keys() - seen[section]:
                view.remove(record_id)
                self.unreadable.pop((section, record_id), None)
