"""Callers and keys as control state: what the admin API stores, and the part of it that a gateway keeps in memory.

A caller's row has its name as id; a key's row has the key's id, and the digest as unique key. Of a key only the SHA-256
is stored.
"""

import msgspec

from aibrix_extproc.core.openai.contract.operations import Role


class CallerRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A caller with its permissions; core/placing.Caller says what they mean."""

    models: tuple[str, ...] | None = None
    operations: tuple[str, ...] | None = None
    role: Role = Role.USER
    adapters: tuple[str, ...] | None = None
    engine_controls: bool = False
    labels: dict[str, str] = {}
    disabled: bool = False
    note: str = ""
    wall_created_at: float = 0.0
    by: str = ""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key of a caller."""

    caller: str
    digest: bytes  # SHA-256; base64 in JSON
    wall_expires_at: float | None = None
    disabled: bool = False
    hint: str = ""  # the last characters of the key, for people
    note: str = ""
    labels: dict[str, str] = {}
    wall_created_at: float = 0.0
    by: str = ""
    replaces: str = ""  # the id of the key before it


class HeldKey(msgspec.Struct, frozen=True, gc=False):
    """The part of a KeyRecord that a gateway keeps. A hundred thousand of them shall be small."""

    caller: str
    digest: bytes
    wall_expires_at: float | None = None
    disabled: bool = False
