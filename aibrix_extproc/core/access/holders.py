"""Callers with their keys. Only digests are kept: a key is shown once, when it is made."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller

LOCAL_ADMIN: Final = "local-admin"  # the caller behind the key of access.admin_key_file


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """One key of a caller; `id` is its name for people."""

    id: str
    digest: bytes  # SHA-256
    created: str = ""
    wall_expires_at: float | None = None  # seconds since the epoch; it is refused from this moment on
    note: str = ""
    disabled: bool = False

    def is_expired(self, wall_now: float) -> bool:
        """Whether its time is over."""
        return self.wall_expires_at is not None and wall_now >= self.wall_expires_at


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """A caller with its keys: several while one replaces another."""

    caller: Caller
    keys: tuple[IssuedKey, ...] = ()
    disabled: bool = False
    limits: tuple[LimitRecord, ...] = ()  # of the caller, and of its keys


def digest_of(key: str) -> bytes:
    """The digest of a key. Keys are random and long, so a fast hash is as good as a slow one."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def admin_holder(key: str) -> KeyHolder:
    """The administrator whose key is in a file of its own."""
    return KeyHolder(Caller(LOCAL_ADMIN, role=Role.ADMIN), (IssuedKey(LOCAL_ADMIN, digest_of(key)),))


def static_holders(keys: Iterable[str], *, engine_controls: bool = False) -> tuple[KeyHolder, ...]:
    """Keys that come without names, from flags or the environment: each a caller that may use every operation."""
    return tuple(
        KeyHolder(
            Caller(f"key-{number}", engine_controls=engine_controls), (IssuedKey(f"key-{number}", digest_of(key)),)
        )
        for number, key in enumerate(keys, 1)
    )
