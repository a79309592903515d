"""Sources and observations folded into snapshots, in any order."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Task, snapshot_of
from aibrix_extproc.core.fleet.reduce import Change, Changed, Fleet, Gone, Listed, Observed

CHAT = ServedModel("chat-m", max_model_len=4096)
LORA = ServedModel("lora-a", parent="chat-m")
STRAY = ServedModel("lora-b", parent="other-m")


def an_endpoint(
    identity: str = "e1", *, models: Sequence[ServedModel] = (), health: Health = Health.UNKNOWN, name: str = ""
) -> Endpoint:
    return Endpoint(identity=identity, address=f"{identity}:8000", name=name, models=tuple(models), health=health)


def a_fleet(*changes: Change, sources: Sequence[str] = ("file",)) -> Fleet:
    fleet = Fleet(sources)
    for change in changes:
        fleet.apply(change)
    return fleet


def ready(identity: str = "e1", *models: ServedModel) -> Observed:
    return Observed(identity, Health.READY, models=models, tasks=frozenset({Task.GENERATE}))


def test_listing_before_any_poll_gives_endpoints_of_unknown_health_and_an_unknown_fleet() -> None:
    snapshot = a_fleet(Listed("file", (an_endpoint(models=[CHAT]),))).snapshot
    assert [endpoint.health for endpoint in snapshot.endpoints] == [Health.UNKNOWN]
    assert set(snapshot.by_model) == {"chat-m"}
    assert snapshot.ready_by_model["chat-m"] == ()
    assert not snapshot.known


def test_listing_by_a_source_that_vouches_for_its_endpoint_makes_it_ready_at_once() -> None:
    snapshot = a_fleet(Listed("file", (an_endpoint(models=[CHAT], health=Health.READY),))).snapshot
    assert [endpoint.identity for endpoint in snapshot.ready_by_model["chat-m"]] == ["e1"]
    assert snapshot.known


def test_observation_of_a_vouched_endpoint_overrules_its_source() -> None:
    snapshot = a_fleet(
        Listed("file", (an_endpoint(models=[CHAT], health=Health.READY),)),
        Observed("e1", Health.UNREACHABLE, detail="connection refused"),
    ).snapshot
    assert (snapshot.endpoints[0].health, snapshot.endpoints[0].detail) == (Health.UNREACHABLE, "connection refused")


@pytest.mark.parametrize("veto", [Health.DRAINING, Health.NOT_READY])
def test_observation_of_an_endpoint_that_its_source_withdraws_does_not_make_it_ready(veto: Health) -> None:
    snapshot = a_fleet(Listed("file", (an_endpoint(health=veto),)), ready("e1", CHAT)).snapshot
    assert snapshot.endpoints[0].health is veto
    assert snapshot.endpoints[0].models == (CHAT,)


def test_observation_without_static_models_serves_what_the_engine_lists() -> None:
    snapshot = a_fleet(Listed("file", (an_endpoint(),)), ready("e1", CHAT, LORA, STRAY)).snapshot
    assert set(snapshot.ready_by_model) == {"chat-m", "lora-a", "lora-b"}
    assert snapshot.models["lora-a"].parent == "chat-m"
    assert snapshot.endpoints[0].tasks == {Task.GENERATE}


def test_observation_of_an_endpoint_that_selects_serves_the_selected_and_adapters_on_them() -> None:
    given = replace(an_endpoint(models=[ServedModel("chat-m")]), selects=True)
    other = ServedModel("other-name")
    snapshot = a_fleet(Listed("file", (given,)), ready("e1", CHAT, other, LORA, STRAY)).snapshot
    assert snapshot.endpoints[0].models == (CHAT, LORA)


def test_observation_that_lists_a_model_twice_indexes_its_endpoint_once() -> None:
    snapshot = a_fleet(Listed("file", (an_endpoint(),)), ready("e1", CHAT, LORA, CHAT)).snapshot
    assert snapshot.endpoints[0].models == (CHAT, LORA)
    assert len(snapshot.by_model["chat-m"]) == 1


def test_failed_poll_of_a_ready_endpoint_keeps_its_models_and_tasks() -> None:
    snapshot = a_fleet(
        Listed("file", (an_endpoint(),)), ready("e1", CHAT), Observed("e1", Health.UNREACHABLE, detail="timeout")
    ).snapshot
    assert [endpoint.health for endpoint in snapshot.by_model["chat-m"]] == [Health.UNREACHABLE]
    assert snapshot.ready_by_model["chat-m"] == ()
    assert snapshot.endpoints[0].tasks == {Task.GENERATE}


def test_fleet_becomes_known_when_every_source_listed_and_every_endpoint_was_asked() -> None:
    fleet = Fleet(["file", "flags"])
    steps: list[Change] = [
        Listed("file", (an_endpoint("e1"),)),
        Observed("e1", Health.UNREACHABLE),
        Listed("flags", (an_endpoint("e2"),)),
        ready("e2", CHAT),
    ]
    known = []
    for step in steps:
        fleet.apply(step)
        known.append(fleet.snapshot.known)
    assert known == [False, False, False, True]


def test_empty_listing_makes_the_fleet_known() -> None:
    snapshot = a_fleet(Listed("file", ())).snapshot
    assert snapshot.known
    assert snapshot.endpoints == ()


def test_endpoint_that_joins_a_known_fleet_leaves_it_known() -> None:
    snapshot = a_fleet(Listed("file", ()), Changed("file", an_endpoint("e2"))).snapshot
    assert snapshot.known
    assert snapshot.endpoints[0].health is Health.UNKNOWN


@pytest.mark.parametrize(
    "again",
    [
        Listed("file", (an_endpoint(),)),
        Changed("file", an_endpoint()),
        Gone("file", "e9"),
        ready("e1", CHAT),
        Observed("e1", Health.READY),
        ready("e9", CHAT),
    ],
    ids=["listed", "changed", "gone-unknown", "observed", "observed-without-models", "observed-stranger"],
)
def test_change_that_says_nothing_new_keeps_the_same_snapshot_object(again: Change) -> None:
    fleet = a_fleet(Listed("file", (an_endpoint(),)), ready("e1", CHAT))
    before = fleet.snapshot
    assert fleet.apply(again) == ()
    assert fleet.snapshot is before


def test_change_of_any_visible_part_bumps_the_version() -> None:
    fleet = a_fleet(Listed("file", (an_endpoint(),)), ready("e1", CHAT))
    before = fleet.snapshot
    ((old, new),) = fleet.apply(Changed("file", an_endpoint(name="engine-1")))
    assert (old, new) == (before.endpoints[0], fleet.snapshot.endpoints[0])
    assert fleet.snapshot.version == before.version + 1
    assert fleet.snapshot.ready_by_model["chat-m"][0].name == "engine-1"


def test_new_listing_keeps_observations_of_those_that_stay_and_forgets_the_others() -> None:
    fleet = a_fleet(Listed("file", (an_endpoint("e1"), an_endpoint("e2"))), ready("e1", CHAT), ready("e2", CHAT))
    fleet.apply(Listed("file", (an_endpoint("e1"),)))
    assert [endpoint.identity for endpoint in fleet.snapshot.ready_by_model["chat-m"]] == ["e1"]
    fleet.apply(Changed("file", an_endpoint("e2")))
    assert [endpoint.health for endpoint in fleet.snapshot.endpoints] == [Health.READY, Health.UNKNOWN]


def test_gone_endpoint_leaves_its_model_unknown() -> None:
    snapshot = a_fleet(Listed("file", (an_endpoint(),)), ready("e1", CHAT), Gone("file", "e1")).snapshot
    assert "chat-m" not in snapshot.by_model
    assert snapshot.known


def test_endpoint_of_two_sources_counts_once_and_survives_the_loss_of_either() -> None:
    both = ["file", "flags"]
    fleet = a_fleet(
        Listed("file", (an_endpoint(name="from-file"),)),
        Listed("flags", (an_endpoint(name="from-flags"),)),
        sources=both,
    )
    fleet.apply(ready("e1", CHAT))
    assert [endpoint.name for endpoint in fleet.snapshot.endpoints] == ["from-file"]
    fleet.apply(Gone("file", "e1"))
    assert [(one.name, one.health) for one in fleet.snapshot.endpoints] == [("from-flags", Health.READY)]


def test_change_from_an_undeclared_source_raises_and_names_it() -> None:
    with pytest.raises(ValueError, match="undeclared source: moon"):
        Fleet(["file"]).apply(Gone("moon", "e1"))


IDENTITIES = st.sampled_from(["e1", "e2", "e3"])
ENDPOINTS = st.builds(
    an_endpoint,
    IDENTITIES,
    models=st.lists(st.sampled_from([CHAT, LORA]), max_size=2),
    health=st.sampled_from([Health.UNKNOWN, Health.READY, Health.DRAINING]),
)
CHANGES = st.one_of(
    st.builds(Listed, st.just("file"), st.lists(ENDPOINTS, max_size=3).map(tuple)),
    st.builds(Changed, st.just("file"), ENDPOINTS),
    st.builds(Gone, st.just("file"), IDENTITIES),
    st.builds(
        Observed,
        IDENTITIES,
        st.sampled_from([Health.READY, Health.UNREACHABLE]),
        models=st.none() | st.lists(st.sampled_from([CHAT, LORA, STRAY]), max_size=3).map(tuple),
    ),
)


@given(st.lists(CHANGES, max_size=12))
def test_any_order_of_changes_keeps_snapshots_consistent_and_versions_honest(changes: list[Change]) -> None:
    fleet = Fleet(["file"])
    for change in changes:
        before = fleet.snapshot
        fleet.apply(change)
        after = fleet.snapshot
        assert (after is before) == (after.version == before.version)
        assert before.known <= after.known
        identities = [endpoint.identity for endpoint in after.endpoints]
        assert len(set(identities)) == len(identities)
        assert set(fleet._observed) <= set(identities)
        assert after == snapshot_of(after.endpoints, version=after.version, known=after.known)
        assert fleet.apply(change) == ()
        assert fleet.snapshot is after
        for model, ready_ones in after.ready_by_model.items():
            assert all(one.health is Health.READY and one in after.by_model[model] for one in ready_ones)


def test_engines_of_endpoints_that_a_source_holds_back_are_not_asked() -> None:
    given = tuple(an_endpoint(health.value, health=health) for health in Health)
    assert {one.health for one in a_fleet(Listed("file", given)).askable.values()} == {Health.READY, Health.UNKNOWN}


def test_endpoint_held_back_and_let_go_again_counts_by_its_source_until_its_engine_is_asked_anew() -> None:
    refused = Observed("e1", Health.UNREACHABLE, models=(CHAT,), detail="refused")
    steps: list[tuple[Change, Health, str]] = [
        (Listed("file", (an_endpoint(health=Health.READY),)), Health.READY, ""),
        (refused, Health.UNREACHABLE, "refused"),
        (Changed("file", an_endpoint(health=Health.NOT_READY)), Health.NOT_READY, ""),
        (Changed("file", an_endpoint(health=Health.READY)), Health.READY, ""),
        (refused, Health.UNREACHABLE, "refused"),
    ]
    fleet = a_fleet()
    for change, health, detail in steps:
        fleet.apply(change)
        (endpoint,) = fleet.snapshot.endpoints
        assert (endpoint.health, endpoint.detail) == (health, detail)
    assert fleet.snapshot.endpoints[0].models == (CHAT,)
