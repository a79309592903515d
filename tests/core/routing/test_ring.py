"""The ring of sessions: kept or made anew it gives the same, nobody moves without need, and shares are even."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.routing.ring import Ring

Endpoints = tuple[Endpoint, ...]


def endpoints(numbers: set[int]) -> Endpoints:
    return tuple(Endpoint(identity=f"id-{number:04}", address=f"a{number}") for number in sorted(numbers))


@given(
    st.lists(st.sets(st.integers(0, 40), min_size=1), min_size=1, max_size=6),
    st.text(max_size=8),
    st.integers(1, 50),
)
def test_kept_ring_gives_what_a_new_one_gives_and_each_endpoint_once(
    fleets: list[set[int]], session: str, limit: int
) -> None:
    kept = Ring()
    for fleet in fleets:
        offered = endpoints(fleet)
        found = kept.first(offered, session, limit)
        assert found == Ring().first(offered, session, limit)
        assert len({one.identity for one in found}) == len(found) == min(limit, len(offered))


@given(st.sets(st.integers(0, 40), min_size=2), st.text(max_size=8), st.data())
def test_order_of_a_session_is_where_it_goes_when_those_before_leave(
    fleet: set[int], session: str, data: st.DataObject
) -> None:
    offered = endpoints(fleet)
    order = Ring().first(offered, session, len(offered))
    left = data.draw(st.sampled_from(offered))
    others = tuple(one for one in offered if one is not left)
    assert Ring().first(others, session, len(others)) == tuple(one for one in order if one is not left)


def test_shares_of_sessions_are_even_within_a_third_in_any_fleet() -> None:
    for size in (2, 5, 50):
        ring, offered = Ring(), endpoints(set(range(size)))
        each = 400
        counts = Counter(ring.first(offered, f"s-{number}", 1)[0].identity for number in range(size * each))
        assert len(counts) == size
        assert 0.7 * each < min(counts.values()) <= max(counts.values()) < 1.35 * each


def test_endpoint_that_is_described_anew_is_given_as_it_is_now() -> None:
    ring, before = Ring(), endpoints(set(range(9)))
    ring.first(before, "s", 9)
    after = (*before[:4], Endpoint(identity=before[4].identity, address="elsewhere"), *before[5:])
    assert {one.address for one in ring.first(after, "s", 9)} == {one.address for one in after}
