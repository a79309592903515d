"""Gateways that tell each other of their placements predict as one, and bear whatever a bulletin says."""

import math
import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.predictor import Ending, Predictor
from aibrix_extproc.core.routing.sharing.bulletin import (
    MAX_BLOCKS,
    MAX_BULLETIN_BYTES,
    Bulletin,
    Charged,
    Computed,
    Ended,
    Placed,
    decoded_bulletin,
    encoded_bulletin,
)
from aibrix_extproc.core.routing.sharing.others import (
    MAX_SENDERS,
    SILENT_SECONDS,
    STALE_SECONDS,
    Others,
    Refused,
)
from aibrix_extproc.core.routing.sharing.outbox import ALIVE_SECONDS, MAX_BULLETINS, Outbox

CHAIN: Final = PrefixChain((11, 12, 13), (2048, 4096, 5000))
QUERY: Final = RouteQuery("m", body_bytes=5000, prefix=CHAIN)
WALL: Final = 1_000_000.0


class Gateway:
    """A predictor, and what tells of it and listens for it."""

    def __init__(self, sender: int, clock_ahead: float = 0.0) -> None:
        self.predictor = Predictor()
        self.outbox = Outbox(sender, lambda: WALL)
        self.predictor.journal = self.outbox
        self.outbox.is_open = True
        self.known: set[str] = {"e1", "e2"}
        self.others = Others(self.predictor, sender, self.knows, lambda: WALL, self.charged)
        self.ahead = clock_ahead

    def knows(self, identity: str) -> bool:
        return identity in self.known

    def charged(self, request_id: str, usage: Usage | None, after_head: float | None, streamed: bool) -> None:
        self.predictor.charged(request_id, usage, after_head=after_head, streamed=streamed)

    def place(self, name: str, identity: str, at: float, query: RouteQuery = QUERY) -> None:
        self.predictor.placed(name, query, identity, at + self.ahead)

    def end(self, name: str, at: float) -> None:
        self.predictor.finished(name, at + self.ahead, Ending.SERVED)

    def tell(self, other: "Gateway", at: float, *, delay: float = 0.0) -> None:
        for bulletin in self.outbox.take(at + self.ahead):
            other.others.take(bulletin, at + delay + other.ahead)


def cached(gateway: Gateway, identity: str) -> int:
    return gateway.predictor.index.cached(QUERY.prefix or CHAIN).of(identity)


def bulletin(number: int = 1, sender: int = 9, wall_at: int = int(WALL), **changes: object) -> bytes:
    fields: dict[str, object] = {"sender": sender, "number": number, "wall_at": wall_at, "sent_at": 1.0}
    return encoded_bulletin(Bulletin(**(fields | changes)))  # type: ignore[arg-type]


def placed(number: int = 1, **changes: object) -> Placed:
    fields: dict[str, object] = {
        "number": number, "engine": 0, "model": 0, "ago": 0.0, "tokens": 100.0,
        "hashes": struct.pack("<3Q", *CHAIN.hashes), "ends": struct.pack("<3I", *CHAIN.ends),
    }  # fmt: skip
    return Placed(**(fields | changes))  # type: ignore[arg-type]


def test_another_gateway_knows_the_cache_and_the_work_whatever_its_clock_says() -> None:
    one, other = Gateway(1), Gateway(2, clock_ahead=5_000.0)
    one.place("r", "e1", 10.0)
    one.tell(other, 10.1)
    assert cached(other, "e1") == cached(one, "e1") == 5000
    mine, its = (gateway.predictor.engine("e1", "m") for gateway in (one, other))
    assert (its.running, its.tokens) == (mine.running, mine.tokens)
    assert its.tokens == pytest.approx(1250, rel=0.01)
    assert its.free_at - other.ahead == pytest.approx(mine.free_at)
    one.end("r", 11.0)
    one.tell(other, 11.0)
    assert (its.running, its.tokens) == (0, 0.0)


def test_what_an_answer_has_cost_teaches_all_gateways_the_speed_of_the_engine() -> None:
    one, other = Gateway(1), Gateway(2)
    one.place("r", "e1", 10.0)
    one.end("r", 12.0)
    one.predictor.charged("r", Usage(2_000, 10, 2_010, 0), 11.0)
    one.tell(other, 12.5)
    assert one.predictor.speed("e1") == pytest.approx(2_000)
    assert other.predictor.speed("e1") == pytest.approx(2_000)
    assert other.others.flights == 0


def test_a_charge_that_came_to_another_gateway_reaches_the_one_that_placed_the_request() -> None:
    one, other = Gateway(1), Gateway(2)
    one.place("r", "e1", 10.0)
    one.predictor.finished("r", 12.0, Ending.SERVED, head_at=10.0)
    assert not other.predictor.expects("r")
    assert one.predictor.expects("r")
    other.outbox.charged("r", Usage(2_000, 10, 2_010, 0), 1.0, streamed=True)
    other.tell(one, 12.5)
    assert one.predictor.speed("e1") == pytest.approx(2_000)
    assert not one.predictor.expects("r")


def test_own_bulletins_and_engines_that_are_not_ours_are_passed_over() -> None:
    one = Gateway(1)
    one.place("r", "e1", 0.0)
    one.predictor.index.clear("e1")
    one.tell(one, 0.0)
    assert cached(one, "e1") == 0
    other = Gateway(2)
    one.place("s", "e1", 0.0)
    other.known = set()
    one.tell(other, 0.0)
    assert other.others.received == 1
    assert not other.predictor.index.blocks("e1")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", Refused.UNREADABLE),
        (b"\xff", Refused.UNREADABLE),
        (bulletin(wall_at=int(WALL) - STALE_SECONDS - 1), Refused.STALE),
        (bulletin(sent_at=math.nan), Refused.STALE),
    ],
    ids=["empty", "no_bulletin", "old", "no_time"],
)
def test_what_is_no_fresh_bulletin_of_ours_changes_nothing(data: bytes, why: Refused) -> None:
    gateway = Gateway(1)
    gateway.others.take(data, 1.0)
    assert {one: count for one, count in gateway.others.refused.items() if count} == {why: 1}
    assert not len(gateway.others)


def test_a_repeated_bulletin_is_refused_and_a_lost_one_ends_what_was_in_flight() -> None:
    gateway = Gateway(1)
    first = bulletin(1, identities=("e1",), models=("m",), placed=(placed(1), placed(2)))
    gateway.others.take(first, 1.0)
    gateway.others.take(first, 1.0)
    engine = gateway.predictor.engine("e1", "m")
    assert engine.running == gateway.others.flights == 2
    gateway.others.take(bulletin(3, identities=("e1",), models=("m",), placed=(placed(5),)), 1.0)
    assert engine.running == gateway.others.flights == 1
    assert gateway.others.refused[Refused.REPEATED] == 1


def test_a_silent_gateway_has_nothing_in_flight_and_an_idle_one_shows_that_it_lives() -> None:
    one, other = Gateway(1), Gateway(2)
    one.place("r", "e1", 0.0)
    one.tell(other, 0.0)
    other.others.sweep(SILENT_SECONDS)
    assert other.others.flights == 1
    assert one.outbox.take(ALIVE_SECONDS / 2) == []
    assert len(one.outbox.take(ALIVE_SECONDS)) == 1
    other.others.sweep(SILENT_SECONDS + 1)
    assert other.predictor.engine("e1", "m").running == len(other.others) == 0


def test_history_tells_of_caches_alone() -> None:
    one, other = Gateway(1), Gateway(2)
    one.place("r", "e1", 0.0)
    (data,) = one.outbox.take(0.0)
    other.others.take(data, 500.0, is_history=True)
    assert cached(other, "e1") == 5000
    assert other.predictor.engine("e1", "m").running == other.others.flights == 0


def test_gateways_beyond_the_bound_are_not_followed() -> None:
    gateway = Gateway(1)
    for sender in range(2, MAX_SENDERS + 4):
        gateway.others.take(bulletin(sender=sender), 1.0)
    assert len(gateway.others) == MAX_SENDERS
    assert gateway.others.refused[Refused.TOO_MANY] == 2


def test_an_outbox_is_bounded_and_counts_what_it_drops() -> None:
    gateway = Gateway(1)
    long = PrefixChain(tuple(range(1, 2_001)), tuple(range(1_000, 2_001_000, 1_000)))
    for number in range(100):
        gateway.place(f"r{number}", "e1", 0.0, RouteQuery("m", body_bytes=2_000_000, prefix=long))
    bulletins = gateway.outbox.take(0.0)
    assert len(bulletins) == MAX_BULLETINS
    assert max(map(len, bulletins)) <= MAX_BULLETIN_BYTES
    assert gateway.outbox.sent + gateway.outbox.dropped == 100
    assert gateway.outbox.dropped > 0
    found = decoded_bulletin(bulletins[0])
    assert found is not None
    assert found.placed[0].chain == PrefixChain(long.hashes[:MAX_BLOCKS], long.ends[:MAX_BLOCKS])


def test_nothing_is_kept_while_nobody_can_be_told() -> None:
    gateway = Gateway(1)
    gateway.place("r", "e1", 0.0)
    gateway.outbox.drop()
    gateway.place("s", "e1", 0.0)
    assert gateway.outbox.take(0.0) == []
    assert gateway.outbox.dropped == 0


NUMBER: Final = st.integers(0, 5)
WHOLE: Final = st.integers(-1, 10**12)
ANY: Final = st.floats(width=64) | st.sampled_from([0.0, -1.0, 1e300, 5.0])


@given(
    st.lists(
        st.builds(placed, NUMBER, engine=st.integers(-1, 2), model=st.integers(-1, 2), ago=ANY, tokens=ANY,
                  hashes=st.binary(max_size=24), ends=st.binary(max_size=12)) | st.builds(placed, NUMBER)
        | st.builds(Charged, st.just("r"), st.tuples(WHOLE, WHOLE, WHOLE) | st.none(), ANY | st.none(), st.booleans())
        | st.builds(Ended, NUMBER, ANY, st.booleans()) | st.builds(Computed, NUMBER, ANY, ANY | st.none()),
        max_size=12,
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
def test_whatever_a_bulletin_says_predictions_stay_numbers_and_flights_end(
    entries: list[object], sent_at: float
) -> None:
    gateway = Gateway(1)
    gateway.place("r", "e2", 97.0)
    data = bulletin(
        sent_at=sent_at, identities=("e1", "other"), models=("m",),
        placed=tuple(one for one in entries if isinstance(one, Placed)),
        ended=tuple(one for one in entries if isinstance(one, Ended)),
        computed=tuple(one for one in entries if isinstance(one, Computed)),
        charged=tuple(one for one in entries if isinstance(one, Charged)),
    )  # fmt: skip
    gateway.predictor.finished("r", 99.0, Ending.SERVED, head_at=98.0)
    gateway.others.take(data, 100.0)
    engine = gateway.predictor.engine("e1", "m")
    assert engine.running >= 0
    assert all(math.isfinite(one) for one in (engine.pace, engine.free_at, engine.tokens))
    gateway.others.lost(100.0)
    assert (engine.running, gateway.others.flights, len(engine.flights)) == (0, 0, 0)
