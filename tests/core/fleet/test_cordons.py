"""Cordons: which endpoints they concern, when they end, and that a cordoned endpoint is never picked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.cordons import NO_CORDONS, Cordon, Cordons
from aibrix_extproc.core.fleet.index import MAX_PAIRS
from aibrix_extproc.core.fleet.model import Health, snapshot_of
from aibrix_extproc.core.fleet.reduce import Cordoned, Fleet, Listed, Observed
from tests.build import MODEL, an_endpoint

NOW = 1_000.0
ONE = an_endpoint(1, name="ns/pod-1", labels={"gpu": "a"})
TWO = an_endpoint(2, name="ns/pod-2", labels={"gpu": "b"})


def reasons(*cordons: Cordon) -> tuple[str, str]:
    made = Cordons(cordons, NOW)
    return made.reason(ONE), made.reason(TWO)


@pytest.mark.parametrize(
    "cordon",
    [
        Cordon(identity=ONE.identity, reason="x"),
        Cordon(address=ONE.address, reason="x"),
        Cordon(pod="pod-1", reason="x"),
        Cordon(pod="ns/pod-1", reason="x"),
        Cordon(selector="gpu=a", reason="x"),
        Cordon(selector="gpu!=b", reason="x", wall_expires_at=NOW + 1),
    ],
)
def test_cordon_concerns_what_it_names(cordon: Cordon) -> None:
    assert reasons(cordon) == ("x", "")


@pytest.mark.parametrize(
    "cordon",
    [Cordon(pod="od-1"), Cordon(selector="gpu=("), Cordon(), Cordon(identity=ONE.identity, wall_expires_at=NOW)],
)
def test_cordon_that_names_nothing_or_is_over_concerns_nothing(cordon: Cordon) -> None:
    assert reasons(cordon) == ("", "")


def test_a_cordon_without_a_reason_says_whose_it_is() -> None:
    assert reasons(Cordon(address=ONE.address, owner="run_1"), Cordon(address=TWO.address)) == (
        "operation run run_1",
        "cordoned",
    )


def test_next_end_is_the_first_of_those_that_are_not_over() -> None:
    ends = [NOW + 9, NOW - 1, NOW + 3, None]
    cordons = Cordons([Cordon(address="a", wall_expires_at=end) for end in ends], NOW)
    assert cordons.wall_next_end == NOW + 3
    assert NO_CORDONS.wall_next_end is None


def a_fleet(count: int = 2) -> Fleet:
    fleet = Fleet(["s"])
    fleet.apply(Listed("s", tuple(an_endpoint(number, health=Health.UNKNOWN) for number in range(1, count + 1))))
    for number in range(1, count + 1):
        fleet.apply(Observed(f"engine-{number}", Health.READY, models=an_endpoint().models))
    return fleet


def test_a_cordoned_endpoint_stays_known_and_is_not_picked_until_its_cordon_ends() -> None:
    fleet = a_fleet()
    before = fleet.snapshot
    pairs = fleet.apply(Cordoned(Cordons([Cordon(identity="engine-1", reason="x")], NOW)))
    assert [new.identity for _, new in pairs if new] == ["engine-1"]
    after = fleet.snapshot
    assert [one.identity for one in after.ready_by_model[MODEL]] == ["engine-2"]
    assert len(after.by_model[MODEL]) == 2
    assert [(one.cordon, one.health) for one in after.endpoints] == [("x", Health.READY), ("", Health.READY)]
    fleet.apply(Observed("engine-1", Health.ASLEEP))
    fleet.apply(Observed("engine-1", Health.READY))
    assert [one.identity for one in fleet.snapshot.ready_by_model[MODEL]] == ["engine-2"]
    fleet.apply(Cordoned(NO_CORDONS))
    assert fleet.snapshot.endpoints == before.endpoints
    assert fleet.snapshot.ready_by_model == before.ready_by_model


def test_silent_endpoints_do_not_stand_in_for_those_that_are_cordoned_if_they_are_too() -> None:
    fleet = a_fleet()
    fleet.apply(Observed("engine-2", Health.SILENT))
    fleet.apply(Cordoned(Cordons([Cordon(identity="engine-1")], NOW)))
    assert [one.identity for one in fleet.snapshot.ready_by_model[MODEL]] == ["engine-2"]
    fleet.apply(Cordoned(Cordons([Cordon(selector="!nothing")], NOW)))
    assert fleet.snapshot.ready_by_model[MODEL] == ()
    assert len(fleet.snapshot.by_model[MODEL]) == 2


def test_an_endpoint_that_joins_is_cordoned_from_the_start() -> None:
    fleet = a_fleet(1)
    fleet.apply(Cordoned(Cordons([Cordon(identity="engine-2")], NOW)))
    fleet.apply(Listed("s", (an_endpoint(1), an_endpoint(2))))
    assert [one.cordon for one in fleet.snapshot.endpoints] == ["", "cordoned"]


@given(st.lists(st.sets(st.integers(1, 2 * MAX_PAIRS)), max_size=6))
def test_snapshots_by_steps_are_those_from_nothing(steps: list[set[int]]) -> None:
    fleet = a_fleet(2 * MAX_PAIRS)
    for numbers in steps:
        fleet.apply(Cordoned(Cordons([Cordon(identity=f"engine-{number}") for number in numbers], NOW)))
        found = fleet.snapshot
        made = snapshot_of(found.endpoints, version=found.version)
        assert found.ready_by_model == made.ready_by_model
        assert [one.cordon != "" for one in found.endpoints].count(True) == len(numbers)
