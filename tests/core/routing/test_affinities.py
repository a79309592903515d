"""Strategies that keep something together: `balanced` sessions, `lora-affinity` the adapters of a batch."""

import pytest

from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, ServedModel
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.scorers.balanced import Balanced
from aibrix_extproc.core.routing.scorers.lora_affinity import TO_LOAD, TO_WAIT, LoraAffinity
from aibrix_extproc.core.routing.scorers.session_affinity import SessionAffinity
from aibrix_extproc.core.routing.signals import Signals

MODELS = (ServedModel("base"), ServedModel("sql", parent="base"))
FLEET = tuple(Endpoint(f"e{number}", f"10.0.0.{number}:8000", models=MODELS) for number in range(4))


class Placements:
    """`balanced` at one gateway that knows the engines' speed: 1,000 tokens a second."""

    def __init__(self) -> None:
        self.predictor, self.scorer, self.now = Predictor(), Balanced(), 0.0
        for endpoint in FLEET:
            self.place(endpoint.identity, 4_000)
            self.predictor.finished("r", 4.0)
            self.predictor.charged("r", Usage(1_000, 1, 1_001), 1.0)
        self.now = 10.0

    def place(self, identity: str, size: int) -> None:
        self.predictor.placed("r", RouteQuery("base", body_bytes=size), identity, self.now)

    def first(self, session: str, tick: int = 0, size: int = 4_000) -> str:
        query = RouteQuery("base", body_bytes=size, session=session)
        signals = Signals(LoadBook(), tick, now=self.now, predictor=self.predictor)
        return self.scorer.rank(query, Pool(FLEET, "base"), signals, 1)[0].identity


def home(session: str) -> str:
    signals = Signals(LoadBook())
    return SessionAffinity().rank(RouteQuery("base", session=session), Pool(FLEET, "base"), signals, 1)[0].identity


@pytest.mark.parametrize("session", ["s1", "s2", "x" * 10_000, "\ud800", ""])
def test_session_stays_at_its_endpoint_whatever_its_name_is(session: str) -> None:
    placements = Placements()
    assert {placements.first(session, tick) for tick in range(4)} == {home(session)}


def test_session_stays_while_little_waits_there_and_goes_elsewhere_from_a_quarter_on() -> None:
    placements = Placements()
    placements.place(home("s"), 600)  # 150 ms before a prompt of a second
    assert placements.first("s") == home("s")
    placements.place(home("s"), 1_600)
    assert placements.first("s") != home("s")


def first_with(model: str, readings: dict[str, EngineGauges]) -> str:
    book = GaugeBook()
    for identity, reading in readings.items():
        book.take(identity, reading)
    signals = Signals(LoadBook(), 0, gauges=book)
    pool = Pool(FLEET[: len(readings)], "base")
    return LoraAffinity().rank(RouteQuery(model), pool, signals, 1)[0].identity


def reading(running: float, *adapters: str, most: int | None = 2) -> EngineGauges:
    return EngineGauges(at=0.0, running=running, running_adapters=frozenset(adapters), max_adapters=most)


def test_adapter_goes_where_it_runs_then_where_there_is_room_for_it() -> None:
    full, free, has = reading(0, "a", "b"), reading(1, "a"), reading(2, "a", "sql")
    assert first_with("sql", {"e0": full, "e1": free, "e2": has}) == "e2"
    assert first_with("sql", {"e0": full, "e1": free}) == "e1"
    waiting = EngineGauges(at=0.0, running=2.0, waiting_adapters=frozenset({"sql"}), max_adapters=1)
    assert first_with("sql", {"e0": full, "e1": free, "e2": waiting}) == "e2"


def test_engine_that_runs_it_is_left_when_it_has_many_more_requests() -> None:
    assert first_with("sql", {"e0": reading(0), "e1": reading(TO_LOAD + 1, "sql")}) == "e0"
    assert first_with("sql", {"e0": reading(0, "a", "b"), "e1": reading(TO_WAIT - 1, "sql")}) == "e1"
    assert first_with("sql", {"e0": reading(0, "a", "b"), "e1": reading(TO_WAIT + 1, "sql")}) == "e0"


def test_base_model_goes_to_the_fewest_requests() -> None:
    assert first_with("base", {"e0": reading(2, "a", "b"), "e1": reading(3)}) == "e0"
    assert first_with("unknown", {"e0": reading(2, "a", "b"), "e1": reading(3)}) == "e0"


def test_engine_that_says_nothing_of_adapters_counts_as_one_with_room() -> None:
    assert first_with("sql", {"e0": reading(1, most=None), "e1": reading(0, "a", "b")}) == "e0"
