"""The trail of a decision: the choice follows from the scores in it, and a look changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.placing import Caller, RouteQuery, RoutingHeaders
from aibrix_extproc.core.routing.best import best, weighted_mean
from aibrix_extproc.core.routing.place import Decision
from aibrix_extproc.core.routing.record import IN_FLIGHT, MAX_VALUED, Detail, Reason, Trail
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.core.routing.request import Place
from tests.build import MODEL, a_placer, a_snapshot, an_endpoint, an_operation

MIXES = (*sorted(STRATEGIES), "least-request:2,random:1", "round-robin:1,least-request:3,power-of-two:1")


def request(headers: RoutingHeaders | None = None, session: str = "mine") -> Place:
    return Place(an_operation("chat_completion"), RouteQuery(MODEL, session=session), headers, Caller("me"))


def traced(mix: str, busy: list[int], draw: float, detail: Detail, *, dry: bool = False) -> Decision:
    book = LoadBook()
    for number, count in enumerate(busy):
        for _ in range(count):
            book.acquire(f"engine-{number}")
    placer = a_placer(mix, load=book, draw=lambda: draw)
    fleet = a_snapshot(*(an_endpoint(number) for number in range(len(busy))))
    decided = placer.place(request(RoutingHeaders(session="mine")), fleet, detail, dry=dry)
    assert isinstance(decided, Decision)
    return decided


def recomputed(trail: Trail) -> str:
    """The identity of the endpoint that the scores choose."""
    sums = weighted_mean([part.weight for part in trail.parts], [part.scores for part in trail.parts])
    return best(sums, trail.endpoints, trail.tick, 1)[0].identity


@pytest.mark.parametrize("mix", MIXES)
@given(
    busy=st.lists(st.integers(0, 3), min_size=1, max_size=8),
    draw=st.floats(0, 1, exclude_max=True, allow_subnormal=False),
)
def test_choice_follows_from_the_scores_of_its_trail(mix: str, busy: list[int], draw: float) -> None:
    decided = traced(mix, busy, draw, Detail.FULL)
    trail = decided.trail
    assert trail is not None
    assert recomputed(trail) == decided.placement.first.identity
    assert trail.eligible == len(trail.endpoints) == len(busy)
    assert list(trail.details[IN_FLIGHT]) == [busy[int(one.identity[7:])] for one in trail.endpoints]


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("detail", Detail)
def test_look_changes_no_choice(mix: str, detail: Detail) -> None:
    plain = traced(mix, [2, 0, 1, 0], 0.4, Detail.NONE)
    looked = traced(mix, [2, 0, 1, 0], 0.4, detail)
    assert looked.placement == plain.placement
    assert (looked.trail is None) is (detail is Detail.NONE)
    assert plain.trail is None


def test_dry_run_takes_no_turn_and_says_what_comes_next() -> None:
    placer = a_placer("round-robin")
    fleet = a_snapshot(*(an_endpoint(number) for number in range(3)))

    def first(*, dry: bool) -> str:
        decided = placer.place(request(), fleet, Detail.FULL, dry=dry)
        assert isinstance(decided, Decision)
        return decided.placement.first.identity

    assert [first(dry=dry) for dry in (True, True, False, True, False, False)] == [
        "engine-0", "engine-0", "engine-0", "engine-1", "engine-1", "engine-2"
    ]  # fmt: skip


def test_large_pool_keeps_the_values_of_its_candidates_only() -> None:
    decided = traced("least-request:1,random:1", [0] * (MAX_VALUED + 1), 0.4, Detail.AT_HAND)
    assert decided.trail is not None
    assert decided.trail.endpoints == decided.placement.candidates
    assert decided.trail.eligible == MAX_VALUED + 1
    assert recomputed(decided.trail) == decided.placement.first.identity
    whole = traced("least-request:1,random:1", [0] * 100, 0.4, Detail.AT_HAND).trail
    assert whole is not None
    assert len(whole.endpoints) == 100


def test_trail_says_who_named_the_strategy() -> None:
    assert traced("random", [0], 0.5, Detail.AT_HAND).trail.reason is Reason.SETTING  # type: ignore[union-attr]
    asked = request(RoutingHeaders(strategy="random"))
    decided = a_placer().place(asked, a_snapshot(), Detail.AT_HAND)
    assert isinstance(decided, Decision)
    assert decided.trail is not None
    assert decided.trail.reason is Reason.HEADER
