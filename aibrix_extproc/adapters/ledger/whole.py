"""Statements that are not broken off: a transaction ends by itself, whatever becomes of who asked for it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def whole(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Let a cancelled caller wait for the end of the transaction.

    A driver that is cancelled inside of a statement leaves its connection in an unknown state (aiosqlite 0.22 never
    closes it then), and the caller could not know whether a commit has happened.
    """

    @wraps(method)
    async def uninterrupted(*args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.ensure_future(method(*args, **kwargs))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_seen)  # the wait may be cancelled again
            if not task.done():
                await asyncio.wait([task])
            raise

    return uninterrupted


def _seen(task: "asyncio.Future[T]") -> None:
    """Nobody is left who would see the task's exception."""
    if not task.cancelled():
        task.exception()
