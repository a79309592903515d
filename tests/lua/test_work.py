"""What hostile answers cost: work grows with their bytes and not faster, whatever the shape and the cut."""

import time
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import pytest
from lupa import luajit21

from tests.lua.driver import cut, send

JSON = "application/json"
Shape = Callable[[int], bytes]
VISITS: Final = 12  # of each byte; what is quadratic takes a thousand


def _wrapped(unit: bytes) -> Shape:
    return lambda size: b'{"a":"' + unit * (size // len(unit)) + b'"}'


BODIES: dict[str, Shape] = {
    "nested usage": lambda size: b'{"usage":' * (size // 10) + b"1" + b"}" * (size // 10),
    "usage after usage": lambda size: b"{" + b'"usage":{"a":1},' * (size // 16) + b'"b":1}',
    "usage that never ends": lambda size: b'{"usage":{' * (size // 10),
    "usage and spaces": lambda size: b'{"usage"' + b" " * size + b":{}}",
    "spaces before every brace": lambda size: (b'{"usage":' + b" " * 3000) * (size // 3009),
    "backslashes": _wrapped(b"\\\\"),
    "escaped quotes": lambda size: b'{"usage":{"prompt_tokens":1},"a":"' + b'\\"' * (size // 2) + b'"}',
    "backslashes behind": lambda size: b'{"usage":{"prompt_tokens":1},"a":"' + b"\\\\" * (size // 2),
    "brackets": lambda size: b'{"usage":{"prompt_tokens":1},"a":' + b"[" * (size // 2) + b"]" * (size // 2) + b"}",
    "strings": lambda size: b'{"usage":{"prompt_tokens":1},"a":[' + b'"",' * (size // 3) + b'""]}',
}
EVENTS: dict[str, Shape] = {
    "lines of data": lambda size: b"data: a\n" * (size // 8) + b"\n",
    "lines of nothing": lambda size: b"x\n" * (size // 2) + b"\n",
    "lines with crlf": lambda size: b"x\r\n" * (size // 3) + b"\r\n",
    "a message of spaces": lambda size: b'data: {"error":{"code":400,"message":"' + b" " * size + b'x"}}\n\n',
    "a message of spaces about one": lambda size: (
        b'data: {"error":{"code":400,"message":"' + b" " * (size - 99) + b'x (parameter=x)"}}\n\n'
    ),
    "keys": lambda size: b'data: {"choices":[],' + b'"usage":1,' * (size // 10) + b'"a":1}\n\n',
    "aborts": lambda size: (
        b'data: {"choices":[{' + b'"finish_reason" :"abort ",' * (size // 26) + b'"a":"abort"}]}\n\n'
    ),
    "spaces in keys": lambda size: b'data: {"choices":' + b" " * size + b'"usage"}\n\n',
    "numbers": lambda size: b'event: error\ndata: {"a":"' + b'\\"sequence_number\\"' * (size // 19) + b'"}\n\n',
}


def least(once: Callable[[], object]) -> float:
    """Seconds of this thread, the least of three."""

    def timed() -> float:
        began = time.thread_time()
        once()
        return time.thread_time() - began

    return min(timed() for _ in range(3))


def cpu(body: bytes, size: int, **options: Any) -> float:
    pieces = cut(body, size)
    return least(lambda: send(pieces, **options))


@cache
def visit(length: int) -> float:
    """What it costs in Lua to look at each of so many bytes once."""
    lua = luajit21.LuaRuntime(encoding=None)
    scan = lua.eval(b"function(text) local n = 0 for _ in text:gmatch('.') do n = n + 1 end return n end")
    text = b"x" * length
    return least(lambda: scan(text))


@pytest.mark.parametrize("size", [16_384, 10_000_000], ids=["pieces", "whole"])
@pytest.mark.parametrize("shape", BODIES.values(), ids=BODIES)
def test_a_body_eight_times_as_long_costs_no_more_than_eight_times_as_much(shape: Shape, size: int) -> None:
    short, long = (cpu(shape(length), size, content_type=JSON, stream="") for length in (200_000, 1_600_000))
    assert long < VISITS * visit(1_600_000)
    assert long < 24 * short + visit(200_000)


@pytest.mark.parametrize("size", [7, 1000, 10_000_000])
@pytest.mark.parametrize("kind", ["data_done", "typed", "anthropic", "transcript"])
@pytest.mark.parametrize("shape", EVENTS.values(), ids=EVENTS)
def test_an_event_of_the_largest_size_that_is_held_costs_little(shape: Shape, kind: str, size: int) -> None:
    assert cpu(shape(60_000), size, stream=kind) < VISITS * visit(60_000)
