"""A folder of spools, one for each process. A process also takes over what dead ones have left."""

from pathlib import Path
from typing import Final

from aibrix_extproc.adapters.spool.ring import Ring, SpoolError

MOST_FILES: Final = 64  # processes that share a folder
_AT_ONCE: Final = 1000
_ALL: Final = 2**62


def open_spool(folder: Path, name: str, capacity: int) -> Ring:
    """The first spool that no running process has, with the entries of all that are left. Raises SpoolError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolError(f"cannot make the folder of spools {folder}: {error.strerror}") from error
    own: Ring | None = None
    failure = SpoolError(f"the folder {folder} has no spool that is free")
    for number in range(MOST_FILES):
        file = folder / f"{name}-{number}.spool"
        if own is not None and not file.exists():
            continue
        try:
            ring = Ring(capacity, file)
        except SpoolError as error:
            failure = error
            continue
        if own is None:
            own = ring
        elif _moved(ring, own):
            file.unlink(missing_ok=True)
    if own is None:
        raise failure
    return own


def _moved(left: Ring, own: Ring) -> bool:
    """Move what fits; whether nothing is left."""
    try:
        while entries := left.oldest(_AT_ONCE, _ALL):
            for entry in entries:
                if not own.append(entry):
                    return False
                left.drop(1)
        return True
    finally:
        left.close()
