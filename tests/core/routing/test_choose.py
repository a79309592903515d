"""What every strategy must hold, and what each promises of its own."""

from collections import Counter
from collections.abc import Mapping
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import ATTEMPTS, Placement, RouteQuery
from aibrix_extproc.core.routing.choose import Choosers
from aibrix_extproc.core.routing.mix import parse_mix
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.registry import DEFAULT_STRATEGY, STRATEGIES
from aibrix_extproc.core.routing.signals import SignalSources

QUERY = RouteQuery(model="chat-m")
ALMOST_ONE = 1 - 2**-53


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(identity=f"id-{index}", address=f"10.0.0.{index}:8000") for index in range(count))


def chosen(
    strategy: str,
    query: RouteQuery,
    offered: tuple[Endpoint, ...],
    load: LoadBook | Mapping[str, int],
    *,
    tick: int,
    draw: float,
    limit: int = ATTEMPTS,
) -> Placement:
    """A placement of as many candidates as there are attempts, unless told otherwise."""
    book = load if isinstance(load, LoadBook) else a_book(load)
    sources = SignalSources(book, lambda: draw)
    sources.tick = lambda model: tick  # type: ignore[method-assign]
    return Choosers(sources).of(parse_mix(strategy)).choose(query, Pool(offered), limit)


def a_book(counts: Mapping[str, int]) -> LoadBook:
    """A book with these exchanges in flight."""
    book = LoadBook()
    for identity, count in counts.items():
        for _ in range(count):
            book.acquire(identity)
    return book


def identities(placement: Placement) -> list[str]:
    return [endpoint.identity for endpoint in placement.candidates]


@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    count=st.integers(1, 70),
    busy=st.dictionaries(st.integers(0, 80).map(lambda index: f"id-{index}"), st.integers(1, 9)),
    tick=st.integers(0, 2**63),
    draw=st.floats(0, ALMOST_ONE),
    limit=st.integers(1, 80),
)
def test_any_strategy_gives_as_many_different_endpoints_as_it_may(
    strategy: str, count: int, busy: dict[str, int], tick: int, draw: float, limit: int
) -> None:
    offered = endpoints(count)
    placement = chosen(strategy, QUERY, offered, busy, tick=tick, draw=draw, limit=limit)
    assert len(set(identities(placement))) == len(placement.candidates) == min(limit, count)
    assert all(candidate in offered for candidate in placement.candidates)
    assert (placement.strategy, placement.model, placement.first) == (strategy, "chat-m", placement.candidates[0])


@given(
    busy=st.lists(st.integers(0, 5), min_size=1, max_size=70),
    tick=st.integers(0, 1000),
    limit=st.integers(1, 80),
)
def test_least_request_order_never_has_a_busier_endpoint_before_a_less_busy_one(
    busy: list[int], tick: int, limit: int
) -> None:
    load = {f"id-{index}": count for index, count in enumerate(busy)}
    ranked = identities(chosen("least-request", QUERY, endpoints(len(busy)), load, tick=tick, draw=0.0, limit=limit))
    assert [load[identity] for identity in ranked] == sorted(busy)[:limit]


def test_least_request_with_equals_that_are_not_neighbours_shares_evenly() -> None:
    load = {"id-1": 5}
    firsts = Counter(
        chosen("least-request", QUERY, endpoints(4), load, tick=tick, draw=0.0).first.identity for tick in range(300)
    )
    assert firsts == {"id-0": 100, "id-2": 100, "id-3": 100}


def test_least_request_under_held_requests_fills_all_endpoints_to_the_same_level() -> None:
    book = LoadBook()
    offered = endpoints(5)
    for tick in range(50):
        book.acquire(chosen("least-request", QUERY, offered, book, tick=tick, draw=0.0).first.identity)
    assert dict(book.view) == {endpoint.identity: 10 for endpoint in offered}


def test_least_request_after_a_release_returns_to_the_freed_endpoint() -> None:
    book = LoadBook()
    offered = endpoints(3)
    for endpoint in offered:
        book.acquire(endpoint.identity)
    book.release("id-2")
    assert chosen("least-request", QUERY, offered, book, tick=7, draw=0.9).first.identity == "id-2"


def test_round_robin_over_three_ticks_visits_each_endpoint_and_lists_its_followers() -> None:
    offered = endpoints(3)
    rounds = [identities(chosen("round-robin", QUERY, offered, {}, tick=tick, draw=0.0, limit=2)) for tick in range(4)]
    assert rounds == [["id-0", "id-1"], ["id-1", "id-2"], ["id-2", "id-0"], ["id-0", "id-1"]]


def test_random_over_an_even_grid_of_draw_draws_every_order_equally_often() -> None:
    steps = 6000
    orders = Counter(
        tuple(identities(chosen("random", QUERY, endpoints(3), {}, tick=0, draw=(step + 0.5) / steps)))
        for step in range(steps)
    )
    assert set(orders) == set(permutations(["id-0", "id-1", "id-2"]))
    assert set(orders.values()) == {steps // 6}


def test_power_of_two_puts_the_less_busy_of_its_two_in_front() -> None:
    offered = endpoints(4)
    load = {"id-0": 3, "id-1": 2, "id-2": 1}
    for step in range(100):
        first, second, *_ = identities(chosen("power-of-two", QUERY, offered, load, tick=0, draw=step / 100))
        assert load.get(first, 0) <= load.get(second, 0)
        (alone,) = identities(chosen("power-of-two", QUERY, offered, load, tick=0, draw=step / 100, limit=1))
        assert alone == first


def firsts_of(offered: tuple[Endpoint, ...], sessions: int = 400) -> list[str]:
    return [
        chosen("session-affinity", replace(QUERY, session=f"s-{one}"), offered, {}, tick=one, draw=0.3).first.identity
        for one in range(sessions)
    ]


def test_session_affinity_sends_a_session_to_one_endpoint_whatever_else_changes() -> None:
    query = replace(QUERY, session="mine")
    offered = endpoints(7)
    expected = identities(chosen("session-affinity", query, offered, {}, tick=0, draw=0.0))
    for tick in range(20):
        load = {f"id-{tick % 7}": tick}
        turned = offered[tick % 7 :] + offered[: tick % 7]
        assert identities(chosen("session-affinity", query, turned, load, tick=tick, draw=tick / 20)) == expected


def test_session_affinity_shares_sessions_evenly() -> None:
    counts = Counter(firsts_of(endpoints(4)))
    assert len(counts) == 4
    assert min(counts.values()) > 70


def test_session_affinity_moves_only_the_sessions_of_an_endpoint_that_left() -> None:
    offered = endpoints(5)
    before, after = firsts_of(offered), firsts_of(offered[:2] + offered[3:])
    assert any(one == "id-2" for one in before)
    for old, new in zip(before, after, strict=True):
        assert new == old or old == "id-2"
    # The second candidate is where the session goes when the first has left, so a retry warms the right cache.
    ranked = identities(chosen("session-affinity", replace(QUERY, session="s-0"), offered, {}, tick=0, draw=0.0))
    left = tuple(one for one in offered if one.identity != ranked[0])
    again = chosen("session-affinity", replace(QUERY, session="s-0"), left, {}, tick=0, draw=0.0)
    assert again.first.identity == ranked[1]


@pytest.mark.parametrize(
    "forged",
    ["10.0.0.2:8000", "MTAuMC4wLjI6ODAwMA==", "id-2", "\ud800", "x" * 1000, ""],
    ids=["address", "address-as-aibrix-writes-it", "identity", "surrogate", "long", "empty"],
)
def test_session_affinity_only_hashes_what_a_client_calls_its_session(forged: str) -> None:
    offered = endpoints(3)
    allowed = offered[:2]  # the address that is named is not among those that may be picked
    placement = chosen("session-affinity", replace(QUERY, session=forged), allowed, {}, tick=0, draw=0.0)
    assert sorted(identities(placement)) == ["id-0", "id-1"]


@pytest.mark.parametrize("limit", [1, 4, 8, 16])
def test_choose_offers_as_many_candidates_as_the_destinations_that_are_set(limit: int) -> None:
    found = chosen(DEFAULT_STRATEGY, QUERY, endpoints(9), {}, tick=0, draw=0.0, limit=limit)
    assert len(found.candidates) == min(limit, 9)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_choose_with_two_pods_at_one_address_offers_the_address_once(strategy: str) -> None:
    twins = (
        Endpoint(identity="old", address="10.0.0.1:8000"),
        Endpoint(identity="new", address="10.0.0.1:8000"),
        Endpoint(identity="other", address="10.0.0.2:8000"),
    )
    placement = chosen(strategy, QUERY, twins, {}, tick=1, draw=0.5)
    assert sorted(endpoint.address for endpoint in placement.candidates) == ["10.0.0.1:8000", "10.0.0.2:8000"]
