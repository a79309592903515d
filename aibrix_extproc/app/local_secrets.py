"""Secrets that the processes of `local` share, made at start and readable by this user only."""

import os
import secrets
from pathlib import Path
from typing import Final

from aibrix_extproc.settings import Settings

NOTE_KEYS: Final = "note-keys"
_OWNER_ONLY: Final = 0o600


def note_keys(settings: Settings, directory: Path) -> Path:
    """The file of note keys: the configured one, or a new one, because Envoy reports to any worker."""
    if settings.metering.note_keys is not None:
        return settings.metering.note_keys.absolute()
    path = directory / NOTE_KEYS
    write_secret(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return path


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that nobody else could read at any time."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
        file.write(content)
