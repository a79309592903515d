"""All records of a section of control rows, for processes that work on them."""

from typing import Final, TypeVar

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.core.control.rows import Row, Section

T = TypeVar("T")
PAGE: Final = 500


async def all_records(control: ControlLedger, section: Section, record: type[T]) -> list[tuple[Row, T]]:
    """Rows and what they say; one that cannot be read, of a newer version of ours, is left out.

    Raises DatabaseError.
    """
    found: list[tuple[Row, T]] = []
    after: str | None = None
    while True:
        rows, more = await control.page(section, after, PAGE)
        for row in rows:
            try:
                found.append((row, msgspec.json.decode(row.data or b"", type=record)))
            except (msgspec.MsgspecError, ValueError):
                continue
        if not more or not rows:
            return found
        after = rows[-1].id
