"""Waits for a state that nobody announces: asks a condition again until it is true, and fails at a deadline.

`until` is for tests on an event loop, `eventually` for tests without one. The pause between two questions grows from
2 ms to 20 ms, so that a short wait stays short, and to three times what a question takes, so that questions to other
processes leave these the time to get there.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar, overload

T = TypeVar("T")
DEADLINE_SECONDS: Final = 120.0  # generous: the machine may be busy with other tests
_LONGEST_PAUSE: Final = 0.15  # also where a question takes long
Description = str | Callable[[], object]


@overload
async def until(
    condition: Callable[[], Awaitable[T | None]], what: Description = "", *, seconds: float = DEADLINE_SECONDS
) -> T: ...
@overload
async def until(condition: Callable[[], T], what: Description = "", *, seconds: float = DEADLINE_SECONDS) -> T: ...
async def until(
    condition: Callable[[], object], what: Description = "", *, seconds: float = DEADLINE_SECONDS
) -> object:
    """The first true answer of a condition, which may be a coroutine function.

    `what` names the state for the message of a failure; a callable is asked at the deadline.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            for pause in _pauses():
                asked = time.monotonic()
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_at_least(pause, asked))
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise AssertionError(_failure(what, seconds)) from error
    raise AssertionError("pauses do not end")


def eventually(condition: Callable[[], T | None], what: Description = "", *, seconds: float = DEADLINE_SECONDS) -> T:
    """`until` for tests without an event loop; a condition that blocks is not interrupted."""
    end = time.monotonic() + seconds
    for pause in _pauses():
        asked = time.monotonic()
        if found := condition():
            return found
        assert time.monotonic() < end, _failure(what, seconds)
        time.sleep(_at_least(pause, asked))
    raise AssertionError("pauses do not end")


def _pauses() -> Iterator[float]:
    pause = 0.002
    while True:
        yield pause
        pause = min(2 * pause, 0.02)


def _at_least(pause: float, asked: float) -> float:
    """The pause behind a question that was asked then."""
    return max(pause, min(3 * (time.monotonic() - asked), _LONGEST_PAUSE))


def _failure(what: Description, seconds: float) -> str:
    return f"not within {seconds} s: {what if isinstance(what, str) else what()}"
