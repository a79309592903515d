"""A caller and a key as lines of YAML, in the form that docs/keys.md shows."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from aibrix_extproc.adapters.keyfile.parse import HASH_PREFIX
from aibrix_extproc.core.access.holders import IssuedKey
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.placing import Caller

NEW_FILE: Final = """\
# Who may call. Only hashes of keys stand here; `aibrix-extproc keys new` makes a key and adds its hash.
callers: []
"""
_PLAIN: Final = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)[A-Za-z][A-Za-z0-9_.-]*", re.IGNORECASE)


def key_lines(key: IssuedKey) -> list[str]:
    """An item of the list `keys`."""
    fields = [f"hash: {HASH_PREFIX}{key.digest.hex()}", f"id: {_scalar(key.id)}", f"created: {key.created}"]
    if key.wall_expires_at is not None:
        fields.append(f"expires: {datetime.fromtimestamp(key.wall_expires_at, UTC):%Y-%m-%dT%H:%M:%SZ}")
    if key.note:
        fields.append(f"note: {_scalar(key.note)}")
    return [f"{'  ' if number else '- '}{field}" for number, field in enumerate(fields)]


def caller_lines(caller: Caller, key: IssuedKey) -> list[str]:
    """An item of the list `callers`, with one key."""
    lines = [f"- name: {_scalar(caller.name)}", "  keys:", *(f"  {line}" for line in key_lines(key))]
    return lines + [f"  {line}" for line in _permissions(caller)]


def _permissions(caller: Caller) -> Iterator[str]:
    if caller.models is not None:
        yield f"models: {_list(caller.models)}"
    if caller.operations is not None:
        yield f"operations: {_list(sorted(caller.operations))}"
    if caller.adapters is not None:
        yield f"adapters: {_list(caller.adapters)}"
    if caller.role is not Role.USER:
        yield f"role: {caller.role.value}"
    if caller.engine_controls:
        yield "engine_controls: true"


def _list(values: Iterable[str]) -> str:
    return "[" + ", ".join(json.dumps(value, ensure_ascii=False) for value in values) + "]"


def _scalar(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
