"""Keys over the API: `/admin/v1/keys`. A key is in one answer only, when it is made; its SHA-256 is stored."""

import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger, Put, UniqueKeyTakenError, VersionConflictError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, refuse
from aibrix_extproc.app.metadata.caller_api import UNSET, Unset, caller_row, checked_labels
from aibrix_extproc.app.metadata.control_records import Room, body_of, checked_text, decoded, invalid, page_of
from aibrix_extproc.core.access.holders import digest_of
from aibrix_extproc.core.access.records import KeyRecord
from aibrix_extproc.core.control.rows import Row, Section
from aibrix_extproc.core.openai.contract.operations import shown

KEY_PREFIX: Final = "sk-"
_KEY_BYTES: Final = 36  # 48 characters
_HASH_PREFIX: Final = "sha256:"
_ID_CHARACTERS: Final = 16  # of the digest: its owner finds the record of a key
_HINT_CHARACTERS: Final = 4
MAX_SECONDS: Final = 10 * 366 * 86_400


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body for a new key."""

    caller: str
    hash: str | None = None  # of a key that exists already: `sha256:` and 64 hexadecimal digits
    expires_in: float | None = None  # seconds
    expires_at: float | None = None  # seconds since the epoch
    note: str = ""
    labels: dict[str, str] = {}
    disabled: bool = False


class KeyFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of a change; what it leaves out stays as it is."""

    expires_in: float | Unset | None = UNSET
    expires_at: float | Unset | None = UNSET
    note: str | Unset = UNSET
    labels: dict[str, str] | Unset = UNSET
    disabled: bool | Unset = UNSET


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of a rotation."""

    overlap_seconds: float = 86_400.0  # both keys are good
    expires_in: float | None = None  # of the new one


MAX_KEYS: Final = 500_000


@dataclass(frozen=True, slots=True)
class KeyApi:
    """Handlers by operation id. `wall_clock`: the database's."""

    ledger: ControlLedger
    room: Room
    wall_clock: Callable[[], float]
    entropy: Callable[[int], bytes]

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_key": self.create,
            "list_keys": self.list,
            "retrieve_key": self.retrieve,
            "update_key": self.update,
            "rotate_key": self.rotate,
            "revoke_key": self.revoke,
        }

    async def create(self, call: Call) -> Reply:
        """Make a key, or take over one that exists elsewhere by its hash."""
        asked = await body_of(call, NewKey)
        call.target["caller"] = asked.caller
        caller = (await caller_row(self.ledger, asked.caller)).id
        await self.room.take()
        checked_labels(asked.labels)
        key = self._new_key() if asked.hash is None else None
        digest = digest_of(key) if key is not None else _digest(asked.hash or "")
        record = KeyRecord(
            caller=caller, digest=digest, note=checked_text("note", asked.note), labels=asked.labels,
            disabled=asked.disabled, hint=key[-_HINT_CHARACTERS:] if key is not None else "",
            wall_created_at=self.wall_clock(), by=call.caller,
            wall_expires_at=self._end(asked.expires_in, asked.expires_at),
        )  # fmt: skip
        put = _put(record, expect_version=0)
        call.target["key_id"] = put.row_id
        (row,) = await self._stored([put])
        return Reply(_shown(row, record) | ({"key": key} if key is not None else {}))

    async def list(self, call: Call) -> Reply:
        """One page, of one caller or of all."""
        caller = call.query.get("caller") or None
        return await page_of(
            call, self.ledger, Section.KEYS, lambda row: _shown(row, decoded(row, KeyRecord)), parent=caller
        )

    async def retrieve(self, call: Call) -> Reply:
        """One key, without the key itself."""
        row = await self._found(call)
        return Reply(_shown(row, decoded(row, KeyRecord)))

    async def update(self, call: Call) -> Reply:
        """Change what is said about a key, disable it, or move its end."""
        asked = await body_of(call, KeyFields)
        row = await self._found(call)
        call.target.update(msgspec.to_builtins(asked))
        given: dict[str, Any] = {
            name: value for name in ("note", "labels", "disabled") if (value := getattr(asked, name)) is not UNSET
        }
        checked_text("note", given.get("note", ""))
        checked_labels(given.get("labels", {}))
        if asked.expires_in is not UNSET or asked.expires_at is not UNSET:
            given["wall_expires_at"] = self._end(asked.expires_in, asked.expires_at)
        record = msgspec.structs.replace(decoded(row, KeyRecord), **given)
        (row,) = await self._stored([_put(record, row_id=row.id, expect_version=row.version)])
        return Reply(_shown(row, record))

    async def rotate(self, call: Call) -> Reply:
        """Make a key that replaces this one; both are good for a while."""
        asked = await body_of(call, Rotation)
        row = await self._found(call)
        if not 0 <= asked.overlap_seconds <= MAX_SECONDS:
            raise invalid("overlap_seconds", f"seconds from 0 to {MAX_SECONDS}")
        now, before = self.wall_clock(), decoded(row, KeyRecord)
        end = now + asked.overlap_seconds
        old = msgspec.structs.replace(before, wall_expires_at=min(end, before.wall_expires_at or end))
        key = self._new_key()
        new = msgspec.structs.replace(
            before, digest=digest_of(key), hint=key[-_HINT_CHARACTERS:], replaces=row.id, disabled=False,
            wall_created_at=now, by=call.caller, wall_expires_at=self._end(asked.expires_in, None),
        )  # fmt: skip
        put = _put(new, expect_version=0)
        call.target["new_key_id"] = put.row_id
        _, row = await self._stored([_put(old, row_id=row.id, expect_version=row.version), put])
        return Reply(_shown(row, new) | {"key": key, "replaced_expires_at": int(old.wall_expires_at or end)})

    async def revoke(self, call: Call) -> Reply:
        """Remove a key: every gateway refuses it within a second."""
        row = await self._found(call)
        if await self.ledger.delete(Section.KEYS, row.id) is None:
            raise _no_such_key(row.id)
        return Reply({"id": row.id, "object": "key", "deleted": True})

    async def _stored(self, puts: Sequence[Put]) -> Sequence[Row]:
        try:
            return await self.ledger.put_all(puts)
        except UniqueKeyTakenError:
            raise refuse("exists_already", what="A key with this hash") from None
        except VersionConflictError:
            new = puts[0].expect_version == 0
            raise refuse("exists_already" if new else "changed_meanwhile", what=f"The key {puts[0].row_id}") from None

    async def _found(self, call: Call) -> Row:
        key_id = call.parameters.get("key_id", "")
        row = await self.ledger.get(Section.KEYS, key_id) if len(key_id) <= 64 and key_id.isprintable() else None
        if row is None:
            raise _no_such_key(key_id)
        return row

    def _new_key(self) -> str:
        return KEY_PREFIX + binascii.b2a_base64(self.entropy(_KEY_BYTES), newline=False).decode().translate(_URL_SAFE)

    def _end(self, expires_in: float | Unset | None, expires_at: float | Unset | None) -> float | None:
        """When a key ends, in seconds since the epoch."""
        now = self.wall_clock()
        if isinstance(expires_in, int | float) and isinstance(expires_at, int | float):
            raise invalid("expires_in", "write expires_in or expires_at, not both")
        if isinstance(expires_in, int | float):
            expires_at, field = now + expires_in, "expires_in"
        else:
            field = "expires_at"
        if not isinstance(expires_at, int | float):
            return None
        if not now < expires_at <= now + MAX_SECONDS:
            raise invalid(field, f"it must be in the future, within {MAX_SECONDS} seconds")
        return float(expires_at)


_URL_SAFE: Final = str.maketrans("+/", "-_")


def _digest(text: str) -> bytes:
    digits = text.lower().removeprefix(_HASH_PREFIX)
    try:
        found = bytes.fromhex(digits) if digits.isascii() and len(digits) == 64 else b""
    except ValueError:
        found = b""
    if not found or not text.lower().startswith(_HASH_PREFIX):
        raise invalid("hash", "write sha256: and 64 hexadecimal digits")
    return found


def _put(record: KeyRecord, *, row_id: str | None = None, expect_version: int) -> Put:
    digits = record.digest.hex()
    key_id = row_id or f"k_{digits[:_ID_CHARACTERS]}"
    return Put(Section.KEYS, key_id, record, digits, record.caller, expect_version)


def _shown(row: Row, record: KeyRecord) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "key",
        "caller": record.caller,
        "hash": f"{_HASH_PREFIX}{record.digest.hex()}",
        "hint": f"...{record.hint}" if record.hint else "",
        "disabled": record.disabled,
        "expires_at": None if record.wall_expires_at is None else int(record.wall_expires_at),
        "note": record.note,
        "labels": record.labels,
        "replaces": record.replaces or None,
        "created_at": int(record.wall_created_at),
        "by": record.by,
        "version": row.version,
    }


def _no_such_key(key_id: str) -> Exception:
    return refuse("key_not_found", param="key_id", id=shown(key_id, 80))
