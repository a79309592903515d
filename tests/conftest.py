"""What holds for every test."""

import gc
from collections.abc import Iterator

import pytest

# anyio imports this when it is first used. pytest rewrites anyio's modules, as its plugin is one of them, and CPython
# 3.11 may fail at that deep inside of a test ("AST constructor recursion depth mismatch").
from anyio import Path as _Path  # noqa: F401
from hypothesis import settings

# A busy machine is no failure: hypothesis' limit of 200 ms for an example says nothing about the code here.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collection makes a million objects that stay, so the collector would walk them again and again in vain.

    It pauses meanwhile, and leaves them alone afterwards: a test that collects all garbage is done in a tenth of the
    time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
