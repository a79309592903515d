"""The scripts of Redis do what the pure counters do: generated histories on both, on a real server."""

import asyncio
import itertools
import re
import struct
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aibrix_extproc.adapters.counters import redis_script as script
from aibrix_extproc.adapters.counters.connection import ask, connect
from aibrix_extproc.core.access.limits.counters import ADMITTED, Claim, Counters, Form, Known, Reading
from tests.redis_server import RedisServer

KEEP, LEASE = 1e12, 20e6
CLAIMS: Final = (
    Claim("requests", Form.BUCKET, 0, 7, 60e6 / 7),
    Claim("tokens\nof a model", Form.BUCKET, 1, 1000, 60e6 / 1000),
    Claim("soft", Form.BUCKET, 1, 100, 60e6 / 100, soft=True),
    Claim("budget", Form.WINDOW, 2, 5000, 300e6),
    Claim("concurrent", Form.LEASE, 3, 2, 0.0),
)
_NUMBERS = itertools.count()

COST = st.sampled_from([0.0, 1.0, 2.0, 33.3, 700.0])
KNOWN = st.none() | st.builds(
    Known, st.sampled_from([-1.0, 1.0, 5e6]), st.floats(0, 400e6), st.floats(0, 400e6), st.sampled_from([0.0, 1.0, 5.5])
)
CHOSEN = st.lists(st.sampled_from(range(len(CLAIMS))), unique=True, max_size=5)
STEP = st.one_of(
    st.tuples(st.just("reserve"), CHOSEN, st.tuples(*[COST] * 5), st.tuples(*[KNOWN] * 5)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.none() | st.tuples(*[st.floats(0, 3000)] * 4)),
    st.tuples(st.just("release"), st.integers(0, 9)),
    st.tuples(st.just("renew"), st.lists(st.integers(0, 9), max_size=3)),
    st.tuples(st.just("wait"), st.sampled_from([-30e6, 0.0, 1.0, 900e3, 7e6, 60e6, 300e6])),
)


def _with_given_time(text: str) -> str:
    """A script that takes its time from a key, and keeps states although real time is another."""
    kept = text.replace(", 'PX', string.format('%.0f', ms)", "")
    assert kept != text or "store(" not in text
    clock = script._CLOCK
    assert clock in kept
    given = "local now = tonumber(redis.call('GET', string.match(KEYS[1], '^{[^}]*}:') .. 'now'))\n"
    return re.sub(r" *redis\.call\('PEXPIRE'.*\n", "", kept.replace(clock, given))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=25))
def test_scripts_and_counters_agree_over_any_history(redis: RedisServer, steps: list[Any]) -> None:
    asyncio.run(_compare(redis, steps))


async def _compare(redis: RedisServer, steps: list[Any]) -> None:
    tag = b"{t%d}:" % next(_NUMBERS)
    connection = await connect("127.0.0.1", redis.port, None, lambda: None)
    try:
        counters, now, held = Counters(), 100e6, 0

        async def run(text: str, keys: list[bytes], *arguments: bytes) -> Any:
            await ask(connection, b"SET", tag + b"now", repr(now).encode())
            return await ask(connection, b"EVAL", _with_given_time(text).encode(), b"%d" % len(keys), *keys, *arguments)

        for kind, *rest in steps:
            if kind == "wait":
                now += rest[0]
            elif kind == "reserve":
                chosen, costs, known = rest
                claims = tuple(CLAIMS[index] for index in chosen)
                some = tuple(costs[index] for index in chosen)
                knows = tuple(known[index] for index in chosen)
                ours = counters.reserve(now, f"r{held % 10}", claims, some, keep=KEEP, lease=LEASE, known=knows)
                packed = script.packed_claims(claims, lambda counter: tag + counter.encode())
                argument = script.pack_reservation(packed, some, knows, keep=KEEP, lease=LEASE)
                name = b"r%d" % (held % 10)
                answer = await run(script.RESERVE, [tag + b"r:" + name, tag + b"born", *packed.keys], argument, name)
                assert script.unpack_reading(answer, len(claims)) == ours
                held += ours.refused == ADMITTED
            elif kind == "settle":
                name = b"r%d" % rest[0]
                mode, packed_actual = (b"keep", b"") if rest[1] is None else (b"settle", script.pack_actual(rest[1]))
                answer = await run(script.SETTLE, [tag + b"r:" + name], mode, packed_actual, name)
                assert answer == counters.settle(now, name.decode(), rest[1])
            elif kind == "release":
                name = b"r%d" % rest[0]
                counters.release(name.decode())
                await run(script.SETTLE, [tag + b"r:" + name], b"release", b"", name)
            else:
                members = [f"r{number}" for number in rest[0]]
                answer = await run(
                    script.RENEW, [tag + b"concurrent"], repr(LEASE).encode(), *(one.encode() for one in members)
                )
                assert answer == counters.renew(now, "concurrent", members, LEASE)
    finally:
        connection.abort("the test is over")


@pytest.mark.parametrize("answer", [b"", b"x" * 15, b"x" * 40], ids=["empty", "short", "long"])
def test_an_answer_of_another_length_is_no_reading(answer: bytes) -> None:
    with pytest.raises(Exception, match="unpack requires"):
        script.unpack_reading(answer, 0)


def test_a_reading_has_a_state_for_each_claim() -> None:
    packed = struct.pack("<6d", 5.0, -1.0, 2.0, 6.0, 1.0, 3.0)
    assert script.unpack_reading(packed, 2) == Reading(5.0, ADMITTED, (1.0, 3.0), 2.0, 6)
