"""What the handlers of control records share: typed bodies, pages, and their refusals."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.openai_http.call import Call, RefusedError, Reply, good, refuse
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.control.rows import MAX_ID, Row, Section
from aibrix_extproc.core.openai.contract.errors import Problem
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.paging import list_object, read_page

T = TypeVar("T")
MAX_TEXT: Final = 256  # of reasons and notes
PAGE: Final = 100
LARGEST_PAGE: Final = 1_000
_COUNTED_EVERY: Final = 1_000  # creations


class Room:
    """Bounds how many records a section has. Counts now and then, so that many creations in a row stay cheap."""

    def __init__(self, ledger: ControlLedger, section: Section, most: int) -> None:
        self._ledger = ledger
        self._section = section
        self._most = most
        self._left = 0

    async def take(self) -> None:
        """Make sure that there is room for one more. Raises RefusedError."""
        if self._left <= 0:
            room = self._most - await self._ledger.count(self._section)
            if room <= 0:
                raise invalid("body", f"there are {self._most} {self._section.value} already; remove some")
            self._left = min(room, _COUNTED_EVERY)
        self._left -= 1


async def body_of(call: Call, kind: type[T]) -> T:
    """The JSON body as a struct. Raises RefusedError that names the field."""
    fields = await call.json()
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        raise invalid(path.strip(".`") or "body", text) from None


def invalid(param: str, reason: str) -> RefusedError:
    """The refusal of a value."""
    end = "" if reason.endswith("?") else "."  # a reason may end by asking what was meant
    return RefusedError(Problem("invalid_value", {"message": f"Invalid '{param}': {shown(reason)}{end}"}, param=param))


def checked_text(param: str, text: str, longest: int = MAX_TEXT) -> str:
    """A text that people read. Raises RefusedError."""
    if len(text) > longest or not text.isprintable():
        raise invalid(param, f"at most {longest} characters, all of them printable")
    return text


def decoded(row: Row, kind: type[T]) -> T:
    """The record of a row."""
    assert row.data is not None
    return msgspec.json.decode(row.data, type=kind)


def checked(param: str, read: Callable[[str], T], text: str) -> T:
    """A value by the rules of the key file. Raises RefusedError."""
    try:
        return read(text)
    except SourceError as error:
        raise invalid(param, str(error)) from None


async def page_of(
    call: Call, ledger: ControlLedger, section: Section, show: Callable[[Row], dict[str, Any] | None], *,
    parent: str | None = None,
) -> Reply:  # fmt: skip
    """One page of a section, in the order of ids. `show` gives None for a record that is left out."""
    page = good(read_page({**call.query, "order": ""}, default=PAGE, largest=LARGEST_PAGE))
    if page.after is not None and len(page.after) > MAX_ID:
        raise refuse("invalid_value", param="after", message="Invalid 'after': no id is that long.")
    rows, more = await ledger.page(section, page.after, page.limit, parent=parent)
    objects = [one for one in map(show, rows) if one is not None]
    last = {"last_id": rows[-1].id} if rows else {}
    return Reply({**list_object(objects, has_more=more), **last})
