"""Snapshots made by changes are those made from nothing, and a change costs what changed, whatever the fleet's size."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.difference import difference
from aibrix_extproc.core.fleet.index import FleetIndex, Pair
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Task, snapshot_of
from aibrix_extproc.core.fleet.modelconfig import parse_config
from aibrix_extproc.core.fleet.reduce import Fleet, Listed, Observed
from aibrix_extproc.core.fleet.roles import EngineRole

CONFIGS = [None, parse_config("{}"), parse_config('{"lockedRoutingStrategy": "random"}')]
NAMES = ["base", "alias", "lora"]
MODELS = st.lists(st.sampled_from(NAMES), unique=True, max_size=3).flatmap(
    lambda names: st.tuples(*(st.builds(ServedModel, st.just(name), st.none(), st.none() | st.integers(1, 3))
                              for name in names))
)  # fmt: skip
ENDPOINT = st.builds(
    Endpoint,
    identity=st.integers(0, 12).map(lambda number: f"e{number:02}"),
    address=st.just("10.0.0.1:8000"),
    name=st.sampled_from(["a", "b"]),
    models=MODELS,
    health=st.sampled_from(Health),
    tasks=st.frozensets(st.sampled_from(Task), max_size=2),
    frontend=st.sampled_from(["", "rust"]),
    config=st.sampled_from(CONFIGS),
    group=st.sampled_from(["", "g", "h"]),
    role=st.sampled_from(EngineRole),
)


@given(st.lists(st.tuples(st.lists(ENDPOINT, max_size=3) | st.lists(ENDPOINT, max_size=14), st.booleans()), max_size=6))
def test_snapshot_by_changes_is_the_one_from_nothing(rounds: list[tuple[list[Endpoint], bool]]) -> None:
    index, fleet = FleetIndex(), dict[str, Endpoint]()
    for version, (changes, leave) in enumerate(rounds, 1):
        pairs: dict[str, Pair] = {}
        for one in changes:
            new = None if leave and one.identity in fleet else one
            pairs[one.identity] = fleet.get(one.identity), new
        for identity, (_, new) in pairs.items():
            if new is None:
                fleet.pop(identity, None)
            else:
                fleet[identity] = new
        index.apply([pair for pair in pairs.values() if pair != (None, None)], known=True)
        expected = snapshot_of(tuple(fleet.values()), version=version)
        assert index.snapshot == expected
        assert list(index.snapshot.by_model) == list(expected.by_model)
        assert list(index.snapshot.models) == list(expected.models)


@given(st.lists(st.integers(0, 30), unique=True).map(sorted), st.lists(st.integers(0, 30), unique=True).map(sorted))
def test_difference_is_what_is_between_the_shared_ends(before: list[int], after: list[int]) -> None:
    made = {number: Endpoint(identity=f"e{number:02}", address="") for number in {*before, *after}}
    old, new = tuple(made[one] for one in before), tuple(made[one] for one in after)
    gone, come = list(old), list(new)
    while gone and come and gone[0] is come[0]:
        del gone[0], come[0]
    while gone and come and gone[-1] is come[-1]:
        del gone[-1], come[-1]
    assert difference(old, new) == (tuple(gone), tuple(come))


def lines(run: Callable[[], object]) -> int:
    """Lines of Python that a call runs, loops counted: work that no busy machine changes. C's work is not in it."""
    count = 0

    def trace(_frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def a_fleet(size: int) -> Fleet:
    fleet = Fleet(["file"])
    given = [Endpoint(identity=f"e{number:05}", address=f"e{number}:8000") for number in range(size)]
    fleet.apply(Listed("file", tuple(given)))
    for one in given[: size // 2]:
        fleet.apply(Observed(one.identity, Health.READY, models=(ServedModel("chat-m"),)))
    return fleet


@pytest.mark.parametrize("health", [Health.READY, Health.NOT_READY])
def test_change_of_health_costs_as_much_in_a_large_fleet_as_in_a_small_one(health: Health) -> None:
    costs = []
    for size in (8, 800):
        fleet = a_fleet(size)
        seen = Observed(f"e{size // 4:05}", Health.UNREACHABLE, detail="refused")
        fleet.apply(seen)
        again = replace(seen, health=health, detail="")
        costs.append(lines(partial(fleet.apply, again)))
    assert costs[1] <= 1.3 * costs[0]
