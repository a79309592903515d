"""Secrets that the processes of `local` share, made at start and readable by this user only."""

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from aibrix_extproc.settings import Settings

NOTE_KEYS: Final = "note-keys"
_OWNER_ONLY: Final = 0o600


def note_keys(settings: Settings, directory: Path) -> Path:
    """The file of note keys: the configured one, that of an earlier run in this directory, or a new one.

    Envoy reports to any worker, and any worker is asked for a response that another one placed.
    """
    if settings.metering.note_keys is not None:
        return settings.metering.note_keys.absolute()
    path = directory / NOTE_KEYS
    if not _is_ours(path):
        write_secret(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return path


def _is_ours(path: Path) -> bool:
    """Whether an earlier run has written the file and no other user could read it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    owned = stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & ~_OWNER_ONLY & 0o777
    return owned and found.st_size > 0


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that no other user could read at any time."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY), "wb") as file:
        file.write(content)
