"""Keys and callers of the admin API, as a gateway holds them: changed one by one, looked up by the digest.

The key file and the settings come first: a key, or a caller's name, that they hold too is theirs, and the API's record
of it has no effect (`overruled` names it). A key that the API makes for such a caller is good for what the file allows.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.access.records import CallerRecord, HeldKey
from aibrix_extproc.core.control.state import Changes, View
from aibrix_extproc.core.placing import Caller

MAX_MADE: Final = 10_000  # callers with the id of a key in them that are kept ready


class ApiKeys:
    """The records of the control state. `complete`: whether all of them are there; before that a key may be missing."""

    def __init__(self, callers: View[CallerRecord], keys: View[HeldKey], complete: Callable[[], bool]) -> None:
        self._records = callers.records
        self._keys = keys.records
        self._ids: dict[bytes, str] = {}  # by digest
        self._callers: dict[str, Caller] = {}  # those that were asked for
        self._made: dict[str, Caller] = {}  # by id of a key, with it
        self.complete = complete
        callers.subscribe(self._on_callers)
        keys.subscribe(self._on_keys)

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, digest: bytes) -> tuple[str, HeldKey, Caller | None] | None:
        """The key of this digest with its id, and its caller: None if it may not pass. None: there is no such key."""
        key_id = self._ids.get(digest)
        if key_id is None:
            return None
        key = self._keys[key_id]
        made = self._made.get(key_id)
        if made is None:
            caller = None if key.disabled else self.caller(key.caller)
            if caller is None:
                return key_id, key, None
            if len(self._made) >= MAX_MADE:
                self._made.clear()
            made = self._made[key_id] = replace(caller, key_id=key_id)
        return key_id, key, made

    def caller(self, name: str) -> Caller | None:
        """The caller of this name; None if there is none that may pass."""
        found = self._callers.get(name)
        record = self._records.get(name) if found is None else None
        if record is None or record.disabled:
            return found
        found = self._callers[name] = caller_of(name, record)
        return found

    def knows(self, name: object) -> bool:
        """Whether there is a caller of this name, disabled or not."""
        return name in self._records

    def overruled(self, names: Iterable[str], digests: Iterable[bytes]) -> tuple[str, ...]:
        """Which of these callers and keys the API has records of, too; keys by their ids."""
        keys = (self._ids[one] for one in digests if one in self._ids)
        return (*(name for name in names if name in self._records), *keys)

    def _on_callers(self, changes: Changes[CallerRecord]) -> None:
        changed = False
        for name in (*changes.put, *changes.removed):
            changed |= self._callers.pop(name, None) is not None
        if changed:
            self._made.clear()

    def _on_keys(self, changes: Changes[HeldKey]) -> None:
        for key_id, key in changes.removed.items():
            self._made.pop(key_id, None)
            if self._ids.get(key.digest) == key_id:
                del self._ids[key.digest]
        for key_id, key in changes.put.items():
            self._made.pop(key_id, None)
            self._ids[key.digest] = key_id


def caller_of(name: str, record: CallerRecord) -> Caller:
    """The caller as permissions are asked of it."""
    return Caller(
        name, record.models, None if record.operations is None else frozenset(record.operations), record.role,
        record.engine_controls, MappingProxyType(record.labels), record.adapters,
    )  # fmt: skip
