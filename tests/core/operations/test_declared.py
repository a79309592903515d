"""AIBrix's ModelAdapters become records of adapters, and slips in them are told in their status."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.operations.declared import (
    Declaration,
    Unfit,
    desired_of,
    is_declared,
    plan_records,
    status_of,
)
from aibrix_extproc.core.operations.desired import DesiredAdapter
from aibrix_extproc.core.operations.placed import AdapterState, State

SPEC: dict[str, Any] = {"baseModel": "llama", "artifactURL": "/adapters/sql"}
NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"


def declaration(name: str = "sql", namespace: str = "llm", *, status: Any = None, **given: Any) -> Declaration:
    """Fields of the metadata by their names in the API; `spec` replaces the whole of it."""
    spec = given.pop("spec", SPEC)
    tree = {"metadata": {"name": name, "namespace": namespace, **given}, "spec": spec, "status": status}
    return msgspec.convert(tree, type=Declaration)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, {}, id="all-engines"),
        pytest.param({"replicas": 1}, {"replicas": 1}, id="one"),
        pytest.param({"replicas": None, "podSelector": None}, {}, id="nulls"),
        pytest.param({"podSelector": {"matchLabels": {"gpu": "a"}}}, {"placement": {"gpu": "a"}}, id="labels"),
        pytest.param({"artifactURL": "huggingface://org/sql"}, {"path": "org/sql"}, id="repository"),
        pytest.param({"artifactURL": "s3://bucket/sql"}, {"path": "s3://bucket/sql"}, id="bucket"),
        pytest.param(
            {"baseModel": None, "podSelector": {"matchLabels": {"model.aibrix.ai/name": "qwen"}}},
            {"base": "qwen", "placement": {"model.aibrix.ai/name": "qwen"}},
            id="base-of-the-pods",
        ),
    ],
)
def test_an_object_is_a_record(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"path": "/adapters/sql", "base": "llama", **expected}
    record = desired_of(declaration(spec=SPEC | spec))
    assert record == DesiredAdapter("sql", source="ModelAdapter llm/sql", **fields)
    assert is_declared(record)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param(None, "path", id="no-spec"),
        pytest.param("text", "path", id="text"),
        pytest.param({"baseModel": "llama"}, "artifactURL", id="no-artifact"),
        pytest.param({"artifactURL": "/a"}, "baseModel", id="no-base"),
        pytest.param(SPEC | {"artifactURL": "file:///etc/passwd"}, "path", id="file"),
        pytest.param(SPEC | {"artifactURL": "/adapters/../etc"}, "path", id="dots"),
        pytest.param(SPEC | {"artifactURL": ["x"]}, "path", id="list"),
        pytest.param(SPEC | {"baseModel": "sql"}, "name", id="name-of-the-base"),
        pytest.param(SPEC | {"replicas": 0}, "replicas", id="none"),
        pytest.param(SPEC | {"replicas": "1"}, "replicas", id="text-replicas"),
        pytest.param(SPEC | {"podSelector": "gpu"}, "podSelector", id="selector"),
        pytest.param(SPEC | {"podSelector": {"matchLabels": []}}, "placement", id="labels"),
        pytest.param(SPEC | {"podSelector": {"matchExpressions": [{}]}}, "matchExpressions", id="expressions"),
        pytest.param(SPEC | {"credentialsSecretRef": {"name": "s"}}, "credentialsSecretRef", id="secret"),
    ],
)
def test_a_slip_is_named(spec: Any, said: str) -> None:
    found = desired_of(declaration(spec=spec))
    assert isinstance(found, Unfit)
    assert said in found.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("baseModel", "artifactURL", "replicas", "podSelector", "credentialsSecretRef")


@given(st.dictionaries(st.sampled_from(KEYS), JSON) | JSON, JSON)
def test_nothing_that_users_write_raises(spec: Any, status: Any) -> None:
    one = declaration(spec=spec, status=status)
    plan = plan_records([one], {})
    told = status_of(one, plan.unfit.get(one.subject, ""), [], NOW)
    assert bool(plan.put) == (told["phase"] == "Pending")
    assert bool(plan.unfit) == (told["phase"] == "Failed")


RECORD = DesiredAdapter("sql", "/adapters/sql", "llama", source="ModelAdapter llm/sql")


def test_records_follow_the_objects() -> None:
    one = declaration()
    assert plan_records([one], {}).put == (RECORD,)
    assert plan_records([one], {"sql": RECORD}).put == ()
    moved = declaration(spec=SPEC | {"artifactURL": "/new"})
    assert [record.path for record in plan_records([moved], {"sql": RECORD}).put] == ["/new"]
    for gone in ([], [declaration(deletionTimestamp=NOW)]):
        plan = plan_records(gone, {"sql": RECORD, "own": DesiredAdapter("own", "/own", "llama")})
        assert (plan.put, plan.drop) == ((), ("sql",))


def test_a_slip_in_an_object_does_not_unload_its_adapter() -> None:
    plan = plan_records([declaration(spec={})], {"sql": RECORD})
    assert (plan.put, plan.drop, set(plan.unfit)) == ((), (), {"ModelAdapter llm/sql"})


def test_an_adapter_of_the_admin_interface_keeps_its_name() -> None:
    plan = plan_records([declaration()], {"sql": DesiredAdapter("sql", "/own", "llama")})
    assert (plan.put, plan.drop) == ((), ())
    assert "admin interface" in plan.unfit["ModelAdapter llm/sql"]


def test_of_two_objects_of_a_name_the_older_counts_and_the_other_follows_it() -> None:
    old, new = declaration(creationTimestamp=NOW), declaration(namespace="other", creationTimestamp=LATER)
    plan = plan_records([new, old], {})
    assert plan.put == (RECORD,)
    assert "older" in plan.unfit["ModelAdapter other/sql"]
    plan = plan_records([new], {"sql": RECORD})
    assert [record.source for record in plan.put] == ["ModelAdapter other/sql"]
    assert plan.drop == ()


def state(pod: str, now: State, detail: str = "") -> AdapterState:
    return AdapterState("sql", pod, "10.0.0.1:8000", now, pod, detail=detail)


@pytest.mark.parametrize(
    ("states", "phase", "instances", "ready"),
    [
        pytest.param([], "Pending", [], "False", id="no-engine"),
        pytest.param([state("llm/a", State.LOADING)], "Pending", [], "False", id="loading"),
        pytest.param(
            [state("llm/b", State.LOADED), state("llm/a", State.FOUND)], "Running", ["a", "b"], "True", id="all"
        ),
        pytest.param(
            [state("llm/a", State.LOADED), state("llm/b", State.WANTED)], "Running", ["a"], "False", id="some"
        ),
        pytest.param([state("llm/a", State.FAILED, "no such file")], "Failed", [], "False", id="failed"),
        pytest.param([state("other/a", State.LOADED)], "Running", [], "True", id="pod-of-another-namespace"),
    ],
)
def test_the_status_says_where_it_is_loaded(
    states: list[AdapterState], phase: str, instances: list[str], ready: str
) -> None:
    told = status_of(declaration(), "", states, NOW)
    assert (told["phase"], told["instances"], told["conditions"][0]["status"]) == (phase, instances, ready)
    assert all(one.detail in told["conditions"][0]["message"] for one in states)


def test_a_status_that_still_holds_is_the_same_later() -> None:
    states = [state("llm/a", State.LOADED)]
    told = status_of(declaration(), "", states, NOW)
    assert status_of(declaration(status=told), "", states, LATER) == told
    changed = status_of(declaration(status=told), "", [], LATER)
    assert changed["conditions"][0]["lastTransitionTime"] == LATER
