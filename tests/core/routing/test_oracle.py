"""Scorers rank as the strategies did before them, whether an order is kept or not; and they read what they declare."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.core.routing.signals import Need, Signals
from tests.core.routing import oracle

ALMOST_ONE = 1 - 2**-53
Endpoints = tuple[Endpoint, ...]
ORACLE: dict[str, Callable[[Endpoints, LoadBook, Signals, int], Endpoints]] = {
    "least-request": lambda those, book, given, limit: oracle.least_request(those, book.view, given.tick, limit),
    "power-of-two": lambda those, book, given, limit: oracle.power_of_two(those, book.view, given.draw, limit),
    "random": lambda those, _, given, limit: oracle.random(those, given.draw, limit),
    "round-robin": lambda those, _, given, limit: oracle.round_robin(those, given.tick, limit),
}

# What happens before a decision: exchanges begin and end, endpoints come, go and are described anew.
STEP = st.tuples(st.sampled_from(["begin", "end", "come", "go", "renew"]), st.integers(0, 10_000))


def endpoint(number: int, name: str = "") -> Endpoint:
    return Endpoint(identity=f"id-{number:03}", address=f"10.0.0.{number}:8000", name=name)


@pytest.mark.parametrize("strategy", sorted(ORACLE))
@given(
    count=st.sampled_from([1, 2, 4, 16, 17, 30, 60]),
    rounds=st.lists(
        st.tuples(st.lists(STEP, max_size=40), st.integers(0, 2**40), st.floats(0, ALMOST_ONE), st.integers(1, 20)),
        min_size=1, max_size=8,
    ),
)  # fmt: skip
def test_scorer_ranks_as_its_strategy_did_before(
    strategy: str,
    count: int,
    rounds: list[tuple[list[tuple[str, int]], int, float, int]],
) -> None:
    book = LoadBook()
    book.record_changes()
    scorer = STRATEGIES[strategy].make()
    fleet = {one.identity: one for one in map(endpoint, range(count))}
    for steps, tick, draw, limit in rounds:
        for step, number in steps:
            happen(step, number, fleet, book)
        pool = tuple(fleet[identity] for identity in sorted(fleet))
        signals = Signals(book, tick, draw)
        expected = ORACLE[strategy](pool, book, signals, limit)
        for key in ("chat-m", ""):
            assert scorer.rank(RouteQuery("chat-m"), Pool(pool, key), signals, limit) == expected


def happen(step: str, number: int, fleet: dict[str, Endpoint], book: LoadBook) -> None:
    """One step; endpoints that have left may still have exchanges."""
    present = sorted(fleet)
    one = present[number % len(present)]
    match step:
        case "begin":
            book.acquire(one)
        case "end":
            busy = sorted(book.view)
            if busy:
                book.release(busy[number % len(busy)])
        case "come":
            fleet[f"id-{number % 999:03}"] = endpoint(number % 999)
        case "go" if len(fleet) > 1:
            del fleet[one]
        case "renew":
            fleet[one] = endpoint(int(one.removeprefix("id-")), name=str(number))


class Watched:
    """Signals that note what is read of them."""

    def __init__(self) -> None:
        self.read: set[Need] = set()

    def __getattr__(self, name: str) -> object:
        if name == "predictor":
            self.read.add(Need.WORK)
        elif name == "tokens":
            self.read.add(Need.CALLER)
        elif name not in ("now", "degraded"):  # the time is for all
            self.read.add(Need[name.upper()])
        return getattr(Signals(LoadBook(), 3, 0.3), name)


class WatchedQuery:
    """A query that notes whether its session or its prefix is read."""

    model = "chat-m"
    prompt_bytes = 100

    def __init__(self, signals: Watched) -> None:
        self._signals = signals

    @property
    def session(self) -> str:
        self._signals.read.add(Need.SESSION)
        return "mine"

    @property
    def caller(self) -> str:
        self._signals.read.add(Need.CALLER)
        return "key-1"

    @property
    def prefix(self) -> None:
        self._signals.read.add(Need.PREFIX)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("count", [4, 40])
def test_scorer_reads_the_signals_that_it_declares_and_no_others(strategy: str, count: int) -> None:
    scorer = STRATEGIES[strategy].make()
    for key in ("chat-m", ""):
        signals = Watched()
        query: object = WatchedQuery(signals)
        given: object = signals
        pool = Pool(tuple(map(endpoint, range(count))), key)
        scorer.rank(query, pool, given, 4)  # type: ignore[arg-type]
        assert signals.read == STRATEGIES[strategy].spec.needs
        signals.read.clear()
        scorer.scores(query, pool, given)  # type: ignore[arg-type]
        needs = STRATEGIES[strategy].spec.needs
        assert needs - {Need.TICK, Need.DRAW} <= signals.read <= needs  # a combination breaks its ties by itself


@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    busy=st.lists(st.integers(0, 5), min_size=1, max_size=70),
    tick=st.integers(0, 2**40),
    draw=st.floats(0, ALMOST_ONE),
)
def test_scores_are_one_for_each_endpoint_between_zero_and_one(
    strategy: str, busy: list[int], tick: int, draw: float
) -> None:
    book = LoadBook()
    pool = tuple(map(endpoint, range(len(busy))))
    for one, count in zip(pool, busy, strict=True):
        for _ in range(count):
            book.acquire(one.identity)
    scores = STRATEGIES[strategy].make().scores(RouteQuery("m", session="s"), Pool(pool), Signals(book, tick, draw))
    assert len(scores) == len(pool)
    assert all(0 <= score <= 1 for score in scores)
