"""The state of an adapter on one engine, as it is stored and shown."""

from enum import StrEnum
from typing import Final

import msgspec

from aibrix_extproc.core.operations.reconcile import Ours

MAX_DETAIL: Final = 1000  # characters of an engine's text
FIRST_WAIT_SECONDS: Final = 1.0  # after a failure; doubles up to the longest
LONGEST_WAIT_SECONDS: Final = 60.0


class State(StrEnum):
    """The progress of an adapter on an engine."""

    WANTED = "wanted"  # not loaded, and its turn has not come
    LOADING = "loading"
    LOADED = "loaded"
    FOUND = "found"  # loaded by somebody else, and not wanted there
    UNLOADING = "unloading"
    FAILED = "failed"  # tried again after a wait


class AdapterState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One adapter on one engine. Times are seconds of the database's clock."""

    adapter: str
    identity: str
    address: str
    state: State
    name: str = ""  # of the endpoint, for people
    path: str = ""  # from where we loaded it; empty: we did not
    listed: str | None = None  # the path that the engine listed afterwards
    detail: str = ""  # of a failure: the engine's answer
    failures: int = 0  # in a row
    next_at: float = 0.0  # the next try is not before
    at: float = 0.0  # the last change

    @property
    def ours(self) -> Ours | None:
        """For plans: whether we loaded it, and from where."""
        return Ours(self.path, self.listed) if self.path else None


def wait_seconds(failures: int) -> float:
    """Seconds until an adapter is tried again on an engine after so many failures in a row."""
    return float(min(FIRST_WAIT_SECONDS * 2 ** min(failures - 1, 16), LONGEST_WAIT_SECONDS))
