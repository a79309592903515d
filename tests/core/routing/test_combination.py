"""What combinations decide: weights count, ties take turns, and producers start with the first who needs them."""

from collections import Counter

import pytest

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.best import best
from aibrix_extproc.core.routing.choose import MAX_COMBINATIONS, Choosers
from aibrix_extproc.core.routing.mix import parse_mix
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.core.routing.signals import Need, SignalSources

ENDPOINTS = tuple(Endpoint(identity=f"id-{number}", address=f"10.0.0.{number}:8000") for number in range(4))
QUERY = RouteQuery("chat-m", session="mine")


def sources(*busy: int, draw: float = 0.3) -> SignalSources:
    book = LoadBook()
    for endpoint, count in zip(ENDPOINTS, busy, strict=False):
        for _ in range(count):
            book.acquire(endpoint.identity)
    return SignalSources(book, lambda: draw)


def firsts(text: str, given: SignalSources, count: int = 300) -> Counter[str]:
    chooser = Choosers(given).of(parse_mix(text))
    return Counter(chooser.choose(QUERY, Pool(ENDPOINTS), 4).first.identity for _ in range(count))


@pytest.mark.parametrize(("weights", "first"), [("1,1", "id-0"), ("1,5", "id-3")])
def test_heavier_part_decides_where_parts_disagree(weights: str, first: str) -> None:
    # At tick 3 the turn is on the last endpoint, which is the busiest; the first one comes next and is idle.
    load, turn = weights.split(",")
    given = sources(0, 2, 2, 2)
    for _ in range(3):
        given.tick("chat-m")
    chooser = Choosers(given).of(parse_mix(f"least-request:{load},round-robin:{turn}"))
    placement = chooser.choose(QUERY, Pool(ENDPOINTS), 4)
    assert placement.first.identity == first
    assert placement.strategy == f"least-request:{load},round-robin:{turn}"


def test_part_that_scores_all_alike_leaves_the_decision_to_the_other() -> None:
    assert firsts("least-request:9,session-affinity:1", sources()) == firsts("session-affinity", sources())


def test_equal_sums_take_turns() -> None:
    counts = firsts("least-request:1,random:0", sources(0, 0, 0, 5))
    assert counts == {"id-0": 100, "id-1": 100, "id-2": 100}
    assert [best([1.0, 0.5, 1.0, 1.0], ENDPOINTS, tick, 3) for tick in range(3)] == [
        (ENDPOINTS[0], ENDPOINTS[2], ENDPOINTS[3]),
        (ENDPOINTS[2], ENDPOINTS[3], ENDPOINTS[0]),
        (ENDPOINTS[3], ENDPOINTS[0], ENDPOINTS[2]),
    ]


def test_random_part_moves_requests_between_equals_and_never_to_a_busy_one() -> None:
    steps, book = iter(range(10_000)), sources(0, 0, 9, 9).load
    given = SignalSources(book, lambda: next(steps) * 0.6180339887498949 % 1)
    counts = firsts("least-request:2,random:1", given, 1000)
    assert counts.keys() == {"id-0", "id-1"}
    assert min(counts.values()) > 400


def test_only_what_a_mix_needs_is_produced() -> None:
    ticks, draws = list[str](), list[int]()

    def draw() -> float:
        draws.append(1)
        return 0.5

    given = SignalSources(LoadBook(), draw)
    given.tick = lambda model: ticks.append(model) or 0  # type: ignore[func-returns-value, method-assign]
    choosers = Choosers(given)
    expected = {
        "random": (0, 1), "round-robin": (1, 0), "least-request": (1, 0), "session-affinity": (0, 0),
        "power-of-two": (0, 1), "random:1,session-affinity:1": (1, 1),
    }  # fmt: skip
    for text, counts in expected.items():
        ticks.clear()
        draws.clear()
        choosers.of(parse_mix(text)).choose(QUERY, Pool(ENDPOINTS), 4)
        assert (len(ticks), len(draws)) == counts, text


def test_producer_starts_once_with_the_first_scorer_that_needs_it_or_at_once_if_that_is_there() -> None:
    started: list[str] = []
    given = SignalSources(LoadBook(), lambda: 0.5)
    given.provide(Need.SESSION, lambda: started.append("early"))
    choosers = Choosers(given)
    choosers.of(parse_mix("random"))
    assert started == []
    choosers.of(parse_mix("session-affinity"))
    choosers.of(parse_mix("session-affinity:1,random:2"))
    assert started == ["early"]
    given.provide(Need.DRAW, lambda: started.append("late"))
    assert started == ["early", "late"]


def test_scorers_are_made_once_and_combinations_of_clients_are_bounded() -> None:
    choosers = Choosers(sources())
    kept = choosers._scorers
    first = {name: kept.get(name) for name in STRATEGIES}
    for weight in range(1, 3 * MAX_COMBINATIONS):
        choosers.of(parse_mix(f"least-request:{weight},random:1"))
        assert len(choosers._made) <= MAX_COMBINATIONS
    assert {name: kept.get(name) for name in STRATEGIES} == first
