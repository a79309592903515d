"""API keys: parsed from headers, looked up by their hash."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from aibrix_extproc.core.access.api_keys import ApiKeys
from aibrix_extproc.core.access.holders import KeyHolder, digest_of
from aibrix_extproc.core.openai.contract.errors import Problem, masked
from aibrix_extproc.core.placing import ANYONE, Caller

MAX_KEY_LENGTH: Final = 512
_MAX_HEADER_LENGTH: Final = 2 * MAX_KEY_LENGTH  # what is looked at: room for a key that is too long, and for spaces
_NEVER: Final = float("inf")


def presented_key(authorization: str | None, x_api_key: str | None, api_key: str | None = None) -> str | None:
    """The key a client sent: a Bearer credential, Anthropic's x-api-key, or Azure's api-key. None if none is usable."""
    if authorization is not None:
        scheme, _, credential = authorization.strip().partition(" ")
        credential = credential.strip()
        return credential if scheme.lower() == "bearer" and credential else None
    named = x_api_key if x_api_key is not None else api_key
    return named.strip() or None if named is not None else None


@dataclass(frozen=True, slots=True)
class _Slot:
    digest: bytes
    caller: Caller | None  # None: disabled
    wall_expires_at: float


class KeyRing:
    """The keys that the gateway accepts, with their callers. Immutable; a changed key file makes a new ring.

    `always`: the caller behind every request that brings none of the keys, or the refusal that everybody gets. `api`:
    further keys, which change by themselves; the holders come first.
    """

    __slots__ = ("_always", "_api", "_by_name", "_disabled", "_slots")

    def __init__(
        self, holders: Iterable[KeyHolder], *, always: Caller | Problem | None = None, api: ApiKeys | None = None
    ) -> None:
        self._always = always
        self._api = api
        self._slots: dict[bytes, _Slot] = {}
        holders = tuple(holders)
        self._by_name: dict[str, Caller] = {}
        self._disabled = frozenset(holder.caller.name for holder in holders if holder.disabled)
        for holder in holders:
            self._by_name.setdefault(holder.caller.name, holder.caller)
        if isinstance(always, Caller):
            self._by_name.setdefault(always.name, always)
        for holder in holders:
            for key in holder.keys:
                off = holder.disabled or key.disabled
                expires = _NEVER if key.wall_expires_at is None else key.wall_expires_at
                # The first holder of a key has it: a later entry must not enable a disabled key.
                caller = None if off else replace(holder.caller, key_id=key.id)
                self._slots.setdefault(key.digest, _Slot(key.digest, caller, expires))

    def named(self, name: str) -> Caller | Problem:
        """The caller of that name, which another process of ours has signed.

        A caller without keys any more keeps its name: its batches continue with the permissions they began with.
        """
        if self._always is not None:
            return self._always
        found = self._by_name.get(name)
        if found is None and self._api is not None:
            found = self._api.caller(name)
        return found or Caller(name)

    def __contains__(self, name: object) -> bool:
        """Whether there is a caller of this name, disabled or not."""
        return name in self._by_name or (self._api is not None and self._api.knows(name))

    def __len__(self) -> int:
        return len(self._slots) + (0 if self._api is None else len(self._api))

    @property
    def overruled(self) -> tuple[str, ...]:
        """Callers and keys of the API whose records have no effect, because the holders have them."""
        return () if self._api is None else self._api.overruled(self._by_name, self._slots)

    def authenticate(
        self, authorization: str | None, x_api_key: str | None, wall_now: float, *, api_key: str | None = None
    ) -> Caller | Problem:
        """The caller behind the credentials, or why there is none."""
        if self._always is not None and not len(self):
            return self._always
        found = self._holder(authorization, x_api_key, wall_now, api_key)
        return found if self._always is None or isinstance(found, Caller) else self._always

    def _holder(
        self, authorization: str | None, x_api_key: str | None, wall_now: float, api_key: str | None
    ) -> Caller | Problem:
        # Cut before anything is copied, so that a header of a megabyte costs no more than a key.
        key = presented_key(
            None if authorization is None else authorization[:_MAX_HEADER_LENGTH],
            None if x_api_key is None else x_api_key[:_MAX_HEADER_LENGTH],
            None if api_key is None else api_key[:_MAX_HEADER_LENGTH],
        )
        if key is None:
            return Problem("missing_api_key")
        if len(key) > MAX_KEY_LENGTH:
            return Problem("invalid_api_key", {"key": masked(key)})
        digest = digest_of(key)
        slot = self._slots.get(digest)
        # The time of the lookup depends on a SHA-256, which does not reveal the key; the hit is compared in constant
        # time all the same.
        if slot is None and self._api is not None:
            slot = self._of_api(self._api, digest)
            if slot is None and not self._api.complete():
                return Problem("keys_unknown")  # it may be one that has not come yet
        if slot is None or slot.caller is None or not hmac.compare_digest(slot.digest, digest):
            return Problem("invalid_api_key", {"key": masked(key)})
        if wall_now >= slot.wall_expires_at:
            return Problem("expired_api_key", {"key": masked(key)})
        return slot.caller

    def _of_api(self, api: ApiKeys, digest: bytes) -> _Slot | None:
        found = api.find(digest)
        if found is None:
            return None
        key_id, key, caller = found
        named = self._by_name.get(key.caller)
        if named is not None:  # the file has a caller of that name, and says all about it
            caller = None if key.disabled or key.caller in self._disabled else replace(named, key_id=key_id)
        return _Slot(key.digest, caller, _NEVER if key.wall_expires_at is None else key.wall_expires_at)


OPEN_RING: Final = KeyRing((), always=ANYONE)  # the gateway asks for no keys
UNREAD_RING: Final = KeyRing((), always=Problem("keys_unknown"))  # it does, and has not read them yet: refuses all
