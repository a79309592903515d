"""The process under test: the whole metadata service, which dies or sees another time where a test says so.

It runs in a fork of a process that has imported everything already, so that a test can afford many of them. Nothing
here may import pytest or an SDK.
"""

import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.app.metadata.service import run_metadata
from aibrix_extproc.settings import Tree, build


class When(StrEnum):
    """Where in a method the process dies."""

    BEFORE = "before"
    INSIDE = "inside"  # of its transaction: every statement done, no commit
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Crash:
    """The process kills itself with SIGKILL at the nth call of a method, `module:Class.method`."""

    method: str
    when: When = When.AFTER
    call: int = 1


@dataclass(frozen=True, slots=True)
class Options:
    """What else is different in this process."""

    crash: Crash | None = None
    jump_seconds: float = 0.0  # by which SIGUSR1 sets this process' clock


def serve(settings: dict[str, Tree], log: str, options: Options, environment: dict[str, str]) -> None:
    """Become the service; its output goes to the log file."""
    for name, value in environment.items():
        os.putenv(name, value)  # for the library of the blob store, which asks the operating system
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    if options.crash is not None:
        _arm(options.crash)
    _let_time_jump(options.jump_seconds)
    code = run_metadata(build(settings))
    sys.stdout.flush()
    os._exit(code)


_inside: ContextVar[bool] = ContextVar("inside", default=False)


def _arm(crash: Crash) -> None:
    module, _, path = crash.method.partition(":")
    owner, _, name = path.partition(".")
    kind = getattr(importlib.import_module(module), owner)
    original: Callable[..., Awaitable[Any]] = getattr(kind, name)
    calls = 0

    @functools.wraps(original)
    async def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        fatal = calls == crash.call
        if fatal and crash.when is When.BEFORE:
            _die()
        _inside.set(fatal and crash.when is When.INSIDE)
        found = await original(*args, **kwargs)
        if fatal and crash.when is When.AFTER:
            _die()
        return found

    setattr(kind, name, dying)
    if crash.when is When.INSIDE:
        _die_before_commit()


def _die_before_commit() -> None:
    original = Database.write

    @asynccontextmanager
    async def write(self: Database) -> AsyncIterator[AsyncConnection]:
        async with original(self) as connection:
            yield connection
            if _inside.get():
                _die()

    Database.write = write  # type: ignore[method-assign]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _let_time_jump(seconds: float) -> None:
    real, offset = time.time, 0.0

    def jump(*_: object) -> None:
        nonlocal offset
        offset = seconds

    signal.signal(signal.SIGUSR1, jump)
    time.time = lambda: real() + offset
