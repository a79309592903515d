"""Waiting for other processes: a condition with a deadline, never a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE = 60.0
PAUSE = 0.02  # only limits how often a condition is asked


def eventually(condition: Callable[[], T], what: str, deadline: float = DEADLINE) -> T:
    """The first true answer of a condition; fails with `what` when there is none in time."""
    end = time.monotonic() + deadline
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(PAUSE)
    return found
