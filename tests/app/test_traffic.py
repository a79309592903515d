"""What exchanges show of engines: signs of life, and who waits at one that fell asleep."""

import math

from aibrix_extproc.app.traffic import EngineTraffic
from aibrix_extproc.core.fleet.model import Health, Snapshot
from tests.build import a_snapshot, an_endpoint, changes


class FakeExchange:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[bool] = []

    def engine_asleep(self, *, elsewhere: bool) -> None:
        self.told.append(elsewhere)


def watched(snapshot: Snapshot, now: float = 100.0) -> EngineTraffic:
    return EngineTraffic(lambda: snapshot, lambda: now)


def test_exchanges_that_came_since_the_engine_was_last_awake_are_told() -> None:
    snapshot = a_snapshot(an_endpoint(1, health=Health.ASLEEP), an_endpoint(2))
    traffic = watched(snapshot)
    early, late, other = FakeExchange(), FakeExchange(), FakeExchange()
    traffic.placed("engine-1", early, 9.9)
    traffic.placed("engine-1", late, 10.0)
    traffic.placed("engine-2", other, 10.0)
    traffic.engine_asleep("engine-1", 10.0)
    assert (early.told, late.told, other.told) == ([], [True], [])


def test_exchanges_are_told_whether_another_engine_is_ready() -> None:
    snapshot = a_snapshot(an_endpoint(1, health=Health.ASLEEP), an_endpoint(2, health=Health.ASLEEP))
    traffic = watched(snapshot)
    exchange = FakeExchange()
    traffic.placed("engine-1", exchange, 10.0)
    traffic.engine_asleep("engine-1", -math.inf)
    assert exchange.told == [False]


def test_exchange_that_has_ended_is_told_nothing() -> None:
    traffic = watched(a_snapshot(an_endpoint(1)))
    exchange = FakeExchange()
    traffic.placed("engine-1", exchange, 10.0)
    traffic.ended("engine-1", exchange)
    traffic.ended("engine-1", exchange)
    traffic.engine_asleep("engine-1", 0.0)
    assert exchange.told == []


def test_exchange_that_ends_while_others_are_told_does_no_harm() -> None:
    traffic = watched(a_snapshot(an_endpoint(1)))

    class Ending(FakeExchange):
        def engine_asleep(self, *, elsewhere: bool) -> None:
            super().engine_asleep(elsewhere=elsewhere)
            traffic.ended("engine-1", self)

    exchanges = [Ending(), Ending()]
    for exchange in exchanges:
        traffic.placed("engine-1", exchange, 10.0)
    traffic.engine_asleep("engine-1", 0.0)
    assert [len(one.told) for one in exchanges] == [1, 1]


def test_silence_is_the_time_since_the_last_answer_and_is_forgotten_with_the_engine() -> None:
    endpoint = an_endpoint(1)
    traffic = watched(a_snapshot(endpoint))
    assert traffic.silence_seconds(endpoint.address) == math.inf
    traffic.answered(endpoint.address, 97.0)
    assert traffic.silence_seconds(endpoint.address) == 3.0
    here, elsewhere = a_snapshot(endpoint), a_snapshot(an_endpoint(2))
    traffic.forget(changes(a_snapshot(an_endpoint(1, health=Health.ASLEEP)), here), here)
    assert traffic.silence_seconds(endpoint.address) == 3.0
    traffic.forget(changes(here, elsewhere), elsewhere)
    assert traffic.silence_seconds(endpoint.address) == math.inf
