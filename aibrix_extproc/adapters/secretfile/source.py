"""Reads the secrets of a file: the first one signs, all of them verify."""

import re
from pathlib import Path
from typing import Final

from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.file import read_text

MIN_CHARACTERS: Final = 32
MAX_SECRETS: Final = 8  # each one is tried for a forged seal
MAX_BYTES: Final = 16 * 1024
_SECRET: Final = re.compile(r"[!-~]{32,512}")


def read_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in order; empty lines and lines that begin with # are skipped. Raises SourceError."""
    text = read_text(path, MAX_BYTES, kind="file of note keys", too_large=f"it may have {MAX_SECRETS} keys, one a line")
    found: dict[bytes, None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        secret = line.strip()
        if not secret or secret.startswith("#"):
            continue
        if not _SECRET.fullmatch(secret):
            raise SourceFormatError(
                f"{path}, line {number}: not a key; a key is {MIN_CHARACTERS} to 512 characters without spaces, such as"
                " `openssl rand -base64 32` prints"
            )
        found[secret.encode("ascii")] = None
    if not found:
        raise SourceFormatError(f"{path}: no key; write one a line, such as `openssl rand -base64 32` prints")
    if len(found) > MAX_SECRETS:
        raise SourceFormatError(f"{path}: {len(found)} keys, at most {MAX_SECRETS}; remove those that signed long ago")
    return tuple(found)
