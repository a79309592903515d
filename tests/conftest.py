"""What holds for every test."""

import gc
import os
import sys
import traceback
from collections.abc import Iterator

import pytest

# anyio imports this when it is first used. pytest rewrites anyio's modules, as its plugin is one of them, and CPython
# 3.11 may fail at that deep inside of a test ("AST constructor recursion depth mismatch").
from anyio import Path as _Path  # noqa: F401
from hypothesis import settings

from tests import warm

# Where Python is told not to keep compiled modules, as in many containers, each of the hundreds of processes that the
# tests start would compile all of ours again: half a second of CPU for one.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # noqa: TID251 - for the processes that tests start
sys.dont_write_bytecode = False

# A finalizer that warns formats a traceback, which CPython 3.11 parses to find what to underline. If the collector runs
# it while something else is being parsed, that fails: "AST constructor recursion depth mismatch".
if sys.version_info < (3, 12):
    setattr(traceback, "_extract_caret_anchors_from_line_segment", lambda segment: None)  # noqa: B010 - not in its types

# A busy machine is no failure: hypothesis' limit of 200 ms for an example says nothing about the code here. Each run
# tries other examples; `make fuzz` tries many.
settings.register_profile("patient", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Iterator[None]:
    """Collection makes a million objects that stay, so the collector would walk them again and again in vain.

    It pauses meanwhile, and leaves them alone afterwards: a test that collects all garbage is done in a tenth of the
    time. The process that `tests.warm` forks, which imports for some seconds, starts meanwhile for all workers.
    """
    forks = session.config.getoption("--forks", 0) and not session.config.option.collectonly
    if forks:
        warm.prepare()
    gc.disable()
    try:
        yield
    finally:
        if forks:
            warm.listening()
        gc.collect()
        gc.freeze()
        gc.enable()
