"""The work that a body takes: no object for each of its members, and no step of Python that depends on its size."""

import sys
import tracemalloc
from collections.abc import Callable

import pytest

from aibrix_extproc.core.openai.wire.request import read_json
from aibrix_extproc.core.openai.wire.splice import spliced
from tests.core.openai.wire.shapes import SHAPES

SMALL, LARGE = 400_000, 4_000_000
UTF8_STEP = 65_536
KIB = 1024


def read(body: bytes) -> None:
    found = read_json(body, sized=True)
    edit = getattr(found, "ask_usage", None)
    if edit is not None:
        spliced(body[:1000], ()) if len(body) > SMALL else spliced(body, (edit,))


def steps(work: Callable[[], None]) -> int:
    """Calls of functions, Python's and C's: what an interpreter does one by one."""
    count = 0

    def counting(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(counting)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPES)
def test_interpreter_does_the_same_for_a_small_and_a_large_body(shape: str) -> None:
    small, large = (SHAPES[shape](size) for size in (SMALL, LARGE))
    more = steps(lambda: read(large)) - steps(lambda: read(small))
    assert more <= 9 * (len(large) - len(small)) // UTF8_STEP + 9, "a piece of text that is checked takes eight"


@pytest.mark.parametrize("shape", SHAPES, ids=SHAPES)
def test_memory_does_not_grow_with_the_body(shape: str) -> None:
    body = SHAPES[shape](LARGE)
    read_json(body)
    tracemalloc.start()
    try:
        read_json(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A key that needs unescaping is unescaped as a whole; a piece of text is decoded at a time.
    assert peak < (LARGE if "long escaped key" in shape else 600 * KIB)
