"""The file in which `local` leaves an administrator's key for the commands of the same user."""

import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def local_admin_key(port: int) -> Path:
    """The file for a `local` that listens on this port."""
    home = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")  # noqa: TID251
    return Path(home) / "aibrix-extproc" / f"admin-key-{port}"


def found_admin_key(base_url: str) -> str | None:
    """The key for a base URL on this machine, if `local` has left one that nobody else could read."""
    try:
        parts = urlsplit(base_url)
        if parts.hostname not in _LOOPBACK or parts.port is None:
            return None
        path = local_admin_key(parts.port)
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return None
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
