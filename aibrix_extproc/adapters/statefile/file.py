"""Reads the file, within bounds."""

import os
import stat
from pathlib import Path


def read_state(path: Path, most_bytes: int) -> bytes:
    """The content; empty if there is no file. Raises OSError, also for what is no file or too long."""
    try:
        # Not blocking, as somebody may have put a pipe there.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("not a file")
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(f"larger than {most_bytes} bytes")
    return data
