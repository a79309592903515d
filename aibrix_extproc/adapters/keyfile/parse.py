"""Parses the key file into holders of keys. The first error raises, naming file, line, field and what to do.

Values are hardly ever quoted in messages: one of them may be a key that slipped to the wrong place.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final, TypeVar

from aibrix_extproc.adapters.keyfile.limits import CALLER_LIMIT_FIELDS, LIMIT_FIELDS, caller_limits, key_limits
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.nodes import Place, collector_paused, compose
from aibrix_extproc.core.access.holders import LOCAL_ADMIN, IssuedKey, KeyHolder
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.access.principal import MAX_GRANT_CHARACTERS, grant_characters
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Role
from aibrix_extproc.core.placing import ANYONE, Caller

MAX_CALLERS: Final = 20_000
MAX_KEYS: Final = 100  # per caller
MAX_PATTERNS: Final = 1_000
MAX_NAME: Final = 64
MAX_TEXT: Final = 256  # notes, labels, patterns
CALLER_FIELDS: Final = (
    "name", "keys", "models", "operations", "role", "adapters", "admin", "engine_controls", "labels", "disabled",
    *CALLER_LIMIT_FIELDS,
)  # fmt: skip
KEY_FIELDS: Final = ("hash", "id", "created", "expires", "note", "disabled", *LIMIT_FIELDS)
HASH_PREFIX: Final = "sha256:"

T = TypeVar("T")

_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@:/+-]{{0,{MAX_NAME - 1}}}")
_RESERVED: Final = re.compile(rf"{ANYONE.name}|{LOCAL_ADMIN}|key-[0-9]+")  # callers that are in no file
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?")
_OPERATION_IDS: Final = tuple(row.id for row in OPERATIONS)
# Those that callers can use; the others are refused to everybody.
_GRANTABLE: Final = tuple(row.id for row in OPERATIONS if row.action not in (Action.ADMIN, Action.REFUSE))


def parse_keys(text: str, file: str) -> tuple[KeyHolder, ...]:
    """Everything that a key file says."""
    with collector_paused():
        return _parse(text, file)


def _parse(text: str, file: str) -> tuple[KeyHolder, ...]:
    root = compose(text, file)
    if root is None:
        raise SourceFormatError(f"{file}: the file is empty; to let nobody in write `callers: []`")
    fields = root.fields(known=("callers",))
    if "callers" not in fields:
        root.fail("the field callers is missing; to let nobody in write `callers: []`")
    return _Reader().holders(fields["callers"])


def parse_name(text: str) -> str:
    """A caller's name, as logs and metrics may show it."""
    if not _NAME.fullmatch(text):
        raise SourceFormatError(
            f"a name has up to {MAX_NAME} letters, digits and . _ @ : / + -, and begins with a letter or digit"
        )
    if _RESERVED.fullmatch(text):
        raise SourceFormatError("the name is reserved for callers that are in no file; choose another")
    return text


def parse_operation(text: str) -> str:
    """An id of the operations table."""
    if text in _OPERATION_IDS:
        return text
    nearest = get_close_matches(text, _OPERATION_IDS, n=1, cutoff=0.7)
    suggestion = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(_GRANTABLE)}"
    raise SourceFormatError(f"there is no operation of this name; {suggestion}")


def parse_role(text: str) -> Role:
    """The role of a caller. Raises SourceFormatError."""
    try:
        return Role(text)
    except ValueError:
        raise SourceFormatError(f"there is no such role; there are {', '.join(Role)}") from None


def parse_moment(text: str) -> datetime:
    """A date, meaning its first moment in UTC, or a time with its zone."""
    try:
        moment = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:  # the 30th of February
        moment = None
    if moment is None:
        raise SourceFormatError("not a time; write it as 2027-01-01 or 2027-01-01T00:00:00Z")
    if moment.tzinfo is None:
        if len(text) > len("2027-01-01"):
            raise SourceFormatError("the time has no zone; add Z for UTC: 2027-01-01T00:00:00Z")
        return moment.replace(tzinfo=UTC)
    return moment


def parse_bounded(text: str) -> str:
    """A short text for people."""
    if len(text) > MAX_TEXT or not text.isprintable():
        raise SourceFormatError(f"at most {MAX_TEXT} characters, all of them printable")
    return text


class _Reader:
    """One reading; remembers what must be unique in the whole file, and where it stood."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._ids: dict[str, int] = {}
        self._digests: dict[bytes, int] = {}

    def holders(self, place: Place) -> tuple[KeyHolder, ...]:
        return tuple(self._holder(item) for item in place.items(MAX_CALLERS))

    def _holder(self, item: Place) -> KeyHolder:
        fields = item.fields(known=CALLER_FIELDS)
        for field, example in (("name", "name: team-a"), ("keys", "keys: [], or add one by `aibrix-extproc keys new`")):
            if field not in fields:
                item.fail(f"the field {field} is missing; write {example}")
        name = fields["name"].checked(parse_name)
        _once(
            self._names, name, fields["name"], f"the name {name} is given already", "keep one entry with all its keys"
        )
        caller = Caller(
            name=name,
            models=_list(fields.get("models"), parse_bounded),
            operations=_frozen(_list(fields.get("operations"), parse_operation)),
            role=_role(fields),
            engine_controls=_flag(fields.get("engine_controls")),
            labels=_labels(fields.get("labels")),
            adapters=_list(fields.get("adapters"), parse_bounded),
        )
        _check_operator(item, caller)
        limits = list(caller_limits(fields, name))
        keys = tuple(self._key(key, limits) for key in fields["keys"].items(MAX_KEYS))
        return KeyHolder(caller, keys, disabled=_flag(fields.get("disabled")), limits=tuple(limits))

    def _key(self, item: Place, limits: list[LimitRecord]) -> IssuedKey:
        fields = item.fields(known=KEY_FIELDS)
        for field, example in (("hash", "hash: sha256:..., never the key itself"), ("id", "id: k_3f9a")):
            if field not in fields:
                item.fail(f"the field {field} is missing; write {example}")
        digest = fields["hash"].checked(_digest)
        _once(self._digests, digest, fields["hash"], "the hash is given already", "a key has one caller, remove one")
        identifier = fields["id"].checked(parse_name)
        _once(self._ids, identifier, fields["id"], f"the id {identifier} is given already", "change one")
        limits += key_limits(fields, identifier)
        created, expires, note = fields.get("created"), fields.get("expires"), fields.get("note")
        return IssuedKey(
            id=identifier,
            digest=digest,
            created=created.checked(parse_moment).isoformat()[:10] if created else "",
            wall_expires_at=expires.checked(parse_moment).timestamp() if expires else None,
            note=note.checked(parse_bounded) if note else "",
            disabled=_flag(fields.get("disabled")),
        )


def _once(seen: dict[T, int], value: T, place: Place, what: str, todo: str) -> None:
    if value in seen:
        place.fail(f"{what} on line {seen[value]}; {todo}")
    seen[value] = place.line


def _digest(text: str) -> bytes:
    lowered = text.lower()
    if not _HASH.fullmatch(lowered):
        raise SourceFormatError(
            "not a hash; write sha256: and 64 hexadecimal digits, as `aibrix-extproc keys new` does"
        )
    return bytes.fromhex(lowered.removeprefix(HASH_PREFIX))


def _list(place: Place | None, read: Callable[[str], str]) -> tuple[str, ...] | None:
    if place is None:
        return None
    found = tuple(item.checked(read) for item in place.items(MAX_PATTERNS))
    if not found:
        place.fail("an empty list would allow nothing; leave the field out to allow all, or write disabled: true")
    return found


def _frozen(values: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _role(fields: Mapping[str, Place]) -> Role:
    """`admin: true` is an older way to write `role: admin`."""
    role = fields["role"].checked(parse_role) if "role" in fields else Role.USER
    if not _flag(fields.get("admin")):
        return role
    if role is Role.OPERATOR:
        fields["admin"].fail("an administrator is no operator; remove one of role and admin")
    return Role.ADMIN


def _check_operator(item: Place, caller: Caller) -> None:
    if caller.role is not Role.OPERATOR:
        return
    if caller.operations is None:
        item.fail("an operator needs the list of its operations; write operations: [...], or role: admin")
    if grant_characters(caller) > MAX_GRANT_CHARACTERS:
        item.fail(f"the lists of an operator may have {MAX_GRANT_CHARACTERS} characters together; use patterns")


def _flag(place: Place | None) -> bool:
    return place is not None and place.boolean()


def _labels(place: Place | None) -> MappingProxyType[str, str]:
    fields = place.fields() if place is not None else {}
    return MappingProxyType({key: value.checked(parse_bounded) for key, value in fields.items()})
