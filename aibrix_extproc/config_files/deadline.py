"""Bounds the wait for a file system that does not answer, such as one of a network that is gone.

A blocked system call cannot be cancelled, so each runs in a thread that may be left behind: at most one for each thing
that is asked of a file, and none that the end of the process would wait for.
"""

import threading
from collections.abc import Callable
from typing import Final, TypeVar

from aibrix_extproc.config_files.errors import SourceLookupError

SECONDS: Final = 5.0

T = TypeVar("T")


def within_deadline(path: str, task: str, work: Callable[[], T], seconds: float = SECONDS) -> T:
    """Returns or raises what `work` does; SourceLookupError if it takes longer, or if an earlier call still hangs.

    Blocks the caller up to twice `seconds`: not for the event loop.
    """
    name = f"{task} {path}"
    for other in threading.enumerate():
        if other.name == name:
            other.join(seconds)
            _refuse_hanging(other, path, seconds)
    outcome: list[Callable[[], T]] = []
    thread = threading.Thread(target=lambda: outcome.append(_outcome(work)), name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    _refuse_hanging(thread, path, seconds)
    return outcome[0]()


def _refuse_hanging(thread: threading.Thread, path: str, seconds: float) -> None:
    if thread.is_alive():
        raise SourceLookupError(
            f"{path}: the file system gave no answer within {seconds:g} s; check the mount that it is on"
        )


def _outcome(work: Callable[[], T]) -> Callable[[], T]:
    """The result as a function that returns or raises it in another thread."""
    try:
        result = work()
    except Exception as caught:  # noqa: BLE001 (raised again where it is waited for)
        error = caught

        def fail() -> T:
            raise error

        return fail
    return lambda: result
