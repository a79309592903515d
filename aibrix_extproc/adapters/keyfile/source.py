"""Reads the key file, and the file of an administrator's key."""

import re
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.keyfile.parse import parse_keys
from aibrix_extproc.config_files.errors import SourceFormatError
from aibrix_extproc.config_files.file import read_text
from aibrix_extproc.core.access.holders import KeyHolder
from aibrix_extproc.core.access.keys import MAX_KEY_LENGTH

MAX_FILE_BYTES: Final = 8 * 1024 * 1024  # some 30,000 keys; a Secret holds 1 MiB
_KEY: Final = re.compile(r"[!-~]{32,}")


def read_keys(path: Path) -> tuple[KeyHolder, ...]:
    """The holders in a file; raises SourceError with one sentence for its operator."""
    return parse_keys(read_key_text(path), str(path))


def read_key_text(path: Path) -> str:
    """The file's text, within its bounds."""
    return read_text(path, MAX_FILE_BYTES, kind="key file", too_large="split the callers between gateways")


def read_one_key(path: Path) -> str:
    """The key that is all of a file. Raises SourceError."""
    key = read_text(path, MAX_KEY_LENGTH + 2, kind="file of an administrator's key", too_large="write one key").strip()
    if not _KEY.fullmatch(key):
        raise SourceFormatError(f"{path}: not a key; write one of 32 characters or more, without spaces")
    return key
