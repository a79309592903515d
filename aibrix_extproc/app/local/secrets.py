"""Secrets that the processes of `local` share, made at start and readable by this user only."""

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from aibrix_extproc.settings import Settings
from aibrix_extproc.settings.admin_key import local_admin_key

NOTE_KEYS: Final = "note-keys"
ADMIN_KEY: Final = "admin-key"
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


def admin_key(settings: Settings, directory: Path, port: int) -> Path:
    """The file with an administrator's key: the configured one, or a new one with a new key.

    Commands of this user find a new one by the port (`settings/admin_key.py`), also where `directory` is temporary.
    """
    if settings.access.admin_key_file is not None:
        return settings.access.admin_key_file.absolute()
    key = f"sk-admin-{secrets.token_urlsafe(36)}\n".encode()
    path = directory / ADMIN_KEY
    write_secret(path, key)
    known = local_admin_key(port)
    with contextlib.suppress(OSError):  # a home that cannot be written to
        known.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(known, key)
    return path


def forget_admin_key(port: int) -> None:
    """Remove the file by which commands find the key."""
    with contextlib.suppress(OSError):
        local_admin_key(port).unlink()


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
