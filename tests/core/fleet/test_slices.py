"""Which EndpointSlices a fleet needs: every address once, few slices, and as little written as can be."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.kubernetes.objects import SliceConditions, SlicePort
from aibrix_extproc.core.fleet.kubernetes.slices import (
    CAPACITY,
    Owner,
    Publication,
    Step,
    Wanted,
    WrittenSlice,
    next_step,
    wanted_of,
)
from aibrix_extproc.core.fleet.model import Endpoint, Health
from tests.build import an_endpoint

HERE = Publication("engines", "llm", "http")
Slices = dict[str, WrittenSlice]


def engines(*numbers: int, port: int = 8000) -> tuple[Endpoint, ...]:
    return tuple(an_endpoint(one, address=f"10.0.{one // 250}.{one % 250 + 1}:{port}") for one in numbers)


def addresses(one: WrittenSlice) -> list[str]:
    return [endpoint.addresses[0] for endpoint in one.endpoints or () if endpoint.addresses]


def written(current: Slices, step: Step) -> Slices:
    """What stands after a step, each write with a new version, as an API server has it."""
    after = dict(current)
    for one in step.put:
        version = str(int(one.metadata.resource_version or "0") + 1)
        metadata = msgspec.structs.replace(one.metadata, resource_version=version)
        after[one.metadata.name] = msgspec.structs.replace(one, metadata=metadata)
    for one in step.delete:
        del after[one.metadata.name]
    return after


def published(*endpoints: Endpoint, before: Slices | None = None) -> Slices:
    current = before or {}
    return written(current, next_step(wanted_of(endpoints), current.values(), HERE))


def test_engines_become_one_slice_per_family_and_port() -> None:
    fleet = (*engines(1, 2), *engines(3, port=8001), an_endpoint(4, address="[fd00::4]:8000"))
    current = published(*fleet)
    assert {name: (one.address_type, addresses(one)) for name, one in current.items()} == {
        "engines-ipv4-8000-0": ("IPv4", ["10.0.0.2", "10.0.0.3"]),
        "engines-ipv4-8001-0": ("IPv4", ["10.0.0.4"]),
        "engines-ipv6-8000-0": ("IPv6", ["fd00::4"]),
    }
    assert current["engines-ipv4-8001-0"].ports == [SlicePort("http", 8001, "TCP")]


def test_slice_says_whose_it_is_and_that_only_a_destination_header_reaches_its_engines() -> None:
    pod = an_endpoint(1, address="10.0.0.1:8000", name="llm/vllm-0", pod_uid="uid-0")
    owned = replace(HERE, owner=Owner("engines", "uid-s"))
    (one,) = next_step(wanted_of([pod]), (), owned).put
    assert msgspec.to_builtins(one) == {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "engines-ipv4-8000-0",
            "namespace": "llm",
            "labels": {
                "kubernetes.io/service-name": "engines",
                "endpointslice.kubernetes.io/managed-by": "aibrix-extproc",
            },
            "ownerReferences": [{"name": "engines", "uid": "uid-s", "apiVersion": "v1", "kind": "Service"}],
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": ["10.0.0.1"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "targetRef": {"kind": "Pod", "name": "vllm-0", "namespace": "llm", "uid": "uid-0"},
        }],
    }  # fmt: skip


@pytest.mark.parametrize("health", Health)
def test_engine_is_published_whatever_its_health(health: Health) -> None:
    assert wanted_of([an_endpoint(1, health=health)]).size == 1


def test_pod_without_an_address_is_not_published_and_needs_no_remark() -> None:
    assert wanted_of([an_endpoint(1, address="")]) == Wanted({}, {})


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.1.1", "0.0.0.0", "localhost", "[::ffff:10.0.0.1]"])
def test_address_that_the_api_refuses_is_named_and_costs_no_other(host: str) -> None:
    wanted = wanted_of([an_endpoint(1, address=f"{host}:8000", name="odd"), an_endpoint(2)])
    assert wanted.size == 1
    assert list(wanted.warnings) == ["odd"]


def test_address_that_two_sources_give_is_published_once() -> None:
    assert wanted_of([an_endpoint(1), an_endpoint(1, identity="again")]).size == 1


def test_slices_that_are_as_they_should_be_are_left_alone() -> None:
    current = published(*engines(1, 2, 3))
    assert next_step(wanted_of(engines(3, 2, 1)), current.values(), HERE) == Step()


def test_large_fleet_fills_slices_up_to_their_capacity() -> None:
    current = published(*engines(*range(2 * CAPACITY + 1)))
    assert sorted(len(addresses(one)) for one in current.values()) == [1, CAPACITY, CAPACITY]


def test_new_engine_goes_to_the_fullest_slice_with_room() -> None:
    current = published(*engines(*range(CAPACITY + 10)))
    without = engines(*range(3, CAPACITY + 10))
    current = published(*without, before=current)
    step = next_step(wanted_of((*without, *engines(2000))), current.values(), HERE)
    assert [one.metadata.name for one in step.put] == ["engines-ipv4-8000-0"]
    assert step.delete == ()


def test_last_engine_of_a_slice_takes_it_along_by_the_version_that_was_seen() -> None:
    current = published(*engines(1))
    step = next_step(wanted_of([]), current.values(), HERE)
    assert (step.put, [one.metadata.resource_version for one in step.delete]) == ((), ["1"])


def test_pod_replaced_under_its_address_changes_its_entry_in_place() -> None:
    old, new = (an_endpoint(1, name="llm/vllm-0", pod_uid=uid) for uid in ("old", "new"))
    (one,) = next_step(wanted_of([new]), published(old).values(), HERE).put
    assert [endpoint.target_ref.uid for endpoint in one.endpoints or () if endpoint.target_ref] == ["new"]
    assert one.metadata.resource_version == "1"


def test_name_that_somebody_else_has_is_passed_over() -> None:
    (one,) = next_step(wanted_of(engines(1)), (), HERE, taken=["engines-ipv4-8000-0"]).put
    assert one.metadata.name == "engines-ipv4-8000-1"


@pytest.mark.parametrize("odd", ["conditions", "port name", "labels", "two ports", "address twice"])
def test_slice_that_somebody_has_edited_is_set_right(odd: str) -> None:
    current = published(*engines(1))
    (one,) = current.values()
    endpoints = one.endpoints or []
    changes: dict[str, dict[str, object]] = {
        "conditions": {"endpoints": [msgspec.structs.replace(endpoints[0], conditions=SliceConditions(True))]},
        "port name": {"ports": [SlicePort("other", 8000, "TCP")]},
        "labels": {"metadata": msgspec.structs.replace(one.metadata, labels={"a": "b"})},
        "two ports": {"ports": [*(one.ports or []), SlicePort("more", 9000, "TCP")]},
        "address twice": {"endpoints": endpoints * 2},
    }
    edited = {one.metadata.name: msgspec.structs.replace(one, **changes[odd])}
    after = published(*engines(1), before=edited)
    assert [addresses(one) for one in after.values()] == [["10.0.0.2"]]
    assert next_step(wanted_of(engines(1)), after.values(), HERE) == Step()


def test_labels_that_others_add_are_no_reason_to_write() -> None:
    (one,) = published(*engines(1)).values()
    labels = {**(one.metadata.labels or {}), "team": "a"}
    labelled = msgspec.structs.replace(one, metadata=msgspec.structs.replace(one.metadata, labels=labels))
    assert next_step(wanted_of(engines(1)), [labelled], HERE) == Step()


def test_owner_that_is_not_to_be_seen_any_more_stays() -> None:
    owned = replace(HERE, owner=Owner("engines", "uid-s"))
    current = written({}, next_step(wanted_of(engines(1)), (), owned))
    assert next_step(wanted_of(engines(1)), current.values(), HERE) == Step()


FLEETS = st.lists(st.sets(st.integers(0, 1300), max_size=1200), min_size=1, max_size=4)


@given(FLEETS)
def test_any_sequence_of_fleets_leaves_each_address_once_in_slices_within_the_limit(fleets: list[set[int]]) -> None:
    current: Slices = {}
    for fleet in fleets:
        current = published(*engines(*fleet), before=current)
        found = [address for one in current.values() for address in addresses(one)]
        assert sorted(found) == sorted(one.address.removesuffix(":8000") for one in engines(*fleet))
        assert all(0 < len(addresses(one)) <= CAPACITY for one in current.values())
        assert next_step(wanted_of(engines(*fleet)), current.values(), HERE) == Step()


@given(st.sets(st.integers(0, 1300), max_size=1200), st.integers(0, 1300))
def test_one_engine_more_or_less_touches_one_slice_and_moves_nobody(fleet: set[int], one: int) -> None:
    current = published(*engines(*fleet))
    step = next_step(wanted_of(engines(*(fleet ^ {one}))), current.values(), HERE)
    assert len(step.put) + len(step.delete) == 1
    after = written(current, step)
    homes = {address: name for name, slices in current.items() for address in addresses(slices)}
    for name, slices in after.items():
        assert all(homes.get(address, name) == name for address in addresses(slices))
