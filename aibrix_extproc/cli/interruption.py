"""Commands that do a long work: how they end early, and what they say when nobody listens any more."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Final, Never

EXIT_INTERRUPTED: Final = 130  # 128 and the signal's number, as shells count
EXIT_TERMINATED: Final = 143


class Terminated(BaseException):
    """SIGTERM, as KeyboardInterrupt is SIGINT: what is half done is removed on the way out."""

    exit_code = EXIT_TERMINATED


@contextlib.contextmanager
def sigterm_raises() -> Iterator[None]:
    """SIGTERM raises Terminated inside."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets only that thread handle signals
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(*_: object) -> Never:
    raise Terminated


def say(text: str) -> None:
    """Tell a person on stderr. If nobody reads it any more, as behind `2>&1 | head`, the work goes on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the rest of the process
