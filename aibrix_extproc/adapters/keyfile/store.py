"""The key file on disk, changed by the command line: one writer at a time, replaced whole or not at all."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.keyfile.edit import with_key, without_key
from aibrix_extproc.adapters.keyfile.lines import NEW_FILE
from aibrix_extproc.adapters.keyfile.parse import parse_keys
from aibrix_extproc.adapters.keyfile.source import read_key_text
from aibrix_extproc.config_files.errors import SourceFormatError, SourceLookupError
from aibrix_extproc.core.access.holders import IssuedKey, KeyHolder
from aibrix_extproc.core.placing import Caller

NEW_FILE_MODE: Final = 0o600
_SHORTEST_ID: Final = 4

MakeKey = Callable[[str], IssuedKey]  # from its id


def add_key(path: Path, caller: Caller, digest: bytes, make: MakeKey) -> KeyHolder:
    """Add a key to the caller, and the caller and the file too where they are missing. Returns the holder.

    Permissions of a caller that is there already are not touched; asking for others is an error.
    """
    with _locked(path):
        new = not path.exists()
        text = NEW_FILE if new else read_key_text(path)
        holders = parse_keys(text, str(path))
        known = next((holder for holder in holders if holder.caller.name == caller.name), None)
        if known is not None and _asked(caller) not in (_asked(known.caller), _asked(Caller(caller.name))):
            raise SourceFormatError(
                f"{path}: {caller.name} is there already with other permissions; edit them in the file, "
                "or leave the options out to add a key with the permissions that it has"
            )
        key = make(_free_id(holders, digest))
        _replace(path, with_key(text, str(path), caller, key))
    return known or KeyHolder(caller, (key,))


def remove_key(path: Path, key_id: str) -> KeyHolder:
    """Take a key out; returns its holder as it was. A SourceLookupError if there is no such key."""
    with _locked(path):
        text = read_key_text(path)
        edited = without_key(text, str(path), key_id)
        _replace(path, edited)
    holders = parse_keys(text, str(path))
    return next(holder for holder in holders if any(key.id == key_id for key in holder.keys))


def _asked(caller: Caller) -> object:
    return caller.models, caller.operations, caller.adapters, caller.role, caller.engine_controls


def _free_id(holders: tuple[KeyHolder, ...], digest: bytes) -> str:
    """The beginning of the hash, as long as needed, so that the owner of a key can find its entry."""
    taken = {key.id for holder in holders for key in holder.keys}
    candidates = (f"k_{digest.hex()[:length]}" for length in range(_SHORTEST_ID, 2 * len(digest)))
    return next(found for found in candidates if found not in taken)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one editor at a time, also of other processes. The directory is locked: the file itself is replaced."""
    try:
        directory = os.open(path.resolve().parent, os.O_RDONLY)
    except OSError as error:
        raise SourceLookupError(f"{path.parent}: {os.strerror(error.errno or 0)}; create the directory") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _replace(path: Path, text: str) -> None:
    target = path.resolve()  # a link stays one
    try:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            _keep_owner(file.fileno(), target)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _not_written(path, error) from error


def _keep_owner(descriptor: int, target: Path) -> None:
    """A gateway under another user must be able to read the file as before."""
    try:
        found = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, NEW_FILE_MODE)
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, found.st_uid, found.st_gid)
    os.fchmod(descriptor, found.st_mode & 0o777)


def _not_written(path: Path, error: OSError) -> SourceLookupError:
    return SourceLookupError(
        f"{path}: cannot be written: {os.strerror(error.errno or 0)}; "
        "a mounted Secret is changed where it was made, not here"
    )
