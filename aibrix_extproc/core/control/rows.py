"""The unit of control state: one row of one section, with the version at which it changed.

The metadata service stores rows, the control feed carries them, and every process folds them (`state.py`). What the
data of a section means is defined by the package that owns it, as one msgspec struct.
"""

from enum import StrEnum
from typing import Final

import msgspec

MAX_ID: Final = 256
MAX_DATA_BYTES: Final = 64 * 1024  # of one row


class Section(StrEnum):
    """The kinds of control state."""

    CORDONS = "cordons"  # core/fleet/cordons.py
    CALLERS = "callers"  # core/access/records.py
    KEYS = "keys"  # core/access/records.py
    LIMITS = "limits"  # core/access/limits/records.py
    ADAPTERS = "adapters"
    MODELS = "models"
    NEWS = "news"  # core/fleet/news.py


class Row(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The state of one record after the change `version`. Versions grow by one with each change of any row."""

    section: str  # a section that this process does not know is ignored
    id: str
    version: int
    data: msgspec.Raw | None  # JSON; None: it was removed


class Page(msgspec.Struct, frozen=True, gc=False):
    """Rows that changed after some version, in the order of their versions.

    `history` names the database's sequence of versions: versions of different histories do not compare. `restart`:
    the rows begin at the very first one, because the asker's version does not belong to this history, or is older
    than removals that are forgotten.
    """

    history: str
    version: int  # all changes up to this one are known after these rows
    rows: tuple[Row, ...]
    more: bool = False  # whether further rows follow at once
    restart: bool = False
