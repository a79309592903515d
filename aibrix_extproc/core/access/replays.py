"""Remembers used seals: one bit each, in pages, so that a few megabytes cover hours."""

from enum import StrEnum
from typing import Final

from aibrix_extproc.core.access.seals import SealedPlacement

PAGE_BITS: Final = 16
PAGE_BYTES: Final = 2**PAGE_BITS // 8
MAX_PAGES: Final = 2048  # 16 MiB: 134 million exchanges


class Use(StrEnum):
    """Whether a seal may be used."""

    FIRST = "first"
    REPEATED = "repeated"
    FORGOTTEN = "forgotten"  # older than the memory: it may have been used


class _Page:
    """Seals of one issuer with consecutive numbers."""

    __slots__ = ("bits", "floor", "latest")

    def __init__(self, floor: int) -> None:
        self.bits = bytearray(PAGE_BYTES)
        self.floor = floor  # seals up to this time may be on a page that was dropped
        self.latest = 0  # time of the latest seal on it


class UsedSeals:
    """Says for each seal whether it is used for the first time. The least recently used page is dropped."""

    def __init__(self, max_pages: int = MAX_PAGES) -> None:
        self._max_pages = max_pages
        self._pages: dict[tuple[int, int], _Page] = {}
        self._floor = -1
        self._last: tuple[tuple[int, int], _Page] | None = None  # the page used last, usually the one needed next

    def use(self, seal: SealedPlacement) -> Use:
        """Mark the seal as used."""
        key = (seal.issuer, seal.number >> PAGE_BITS)
        last = self._last
        page = last[1] if last is not None and last[0] == key else self._page(key, seal)
        if page is None or seal.wall_at <= page.floor:
            return Use.FORGOTTEN
        index = seal.number & (2**PAGE_BITS - 1)
        byte, bit = index >> 3, 1 << (index & 7)
        if page.bits[byte] & bit:
            return Use.REPEATED
        page.bits[byte] |= bit
        if seal.wall_at > page.latest:
            page.latest = seal.wall_at
        return Use.FIRST

    def _page(self, key: tuple[int, int], seal: SealedPlacement) -> _Page | None:
        page = self._pages.pop(key, None)
        if page is None:
            if seal.wall_at <= self._floor:
                return None
            page = self._new_page()
        self._pages[key] = page  # the most recently used page comes last
        self._last = key, page
        return page

    def _new_page(self) -> _Page:
        page = _Page(self._floor)
        if len(self._pages) >= self._max_pages:
            dropped = self._pages.pop(next(iter(self._pages)))
            self._floor = max(self._floor, dropped.latest)
        return page
