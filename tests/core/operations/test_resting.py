"""Who sleeps and who wakes, and that a group never has two members awake."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from aibrix_extproc.core.openai.contract.errors import Problem, error_object
from aibrix_extproc.core.operations.policies import ModelPolicy, read_policy
from aibrix_extproc.core.operations.resting import EngineRest, Rest, Turn, Verb, turns

WAKING = ModelPolicy("llama", wake_on_request=True)
IDLE = ModelPolicy("llama", idle_sleep_seconds=60)


def engine(name: str, rest: Rest, model: str = "llama", **fields: Any) -> EngineRest:
    return EngineRest(name, frozenset({model}), rest, **fields)


def planned(policy: ModelPolicy, *engines: EngineRest, **demands: float) -> list[tuple[str, str]]:
    return [(one.verb.value, one.identity) for one in turns({policy.model: policy}, engines, demands)]


def test_a_request_wakes_one_engine() -> None:
    asleep = engine("a", Rest.ASLEEP), engine("b", Rest.ASLEEP)
    assert planned(WAKING, *asleep) == []
    assert planned(WAKING, *asleep, llama=0.0) == [("wake", "a")]
    assert planned(WAKING, replace(asleep[0], is_changing=True), asleep[1], llama=0.0) == []
    assert planned(changed(WAKING, min_awake=2), *asleep, llama=0.0) == [("wake", "a"), ("wake", "b")]
    assert planned(changed(WAKING, wake_on_request=False), *asleep, llama=0.0) == []


def test_an_engine_that_somebody_else_cordoned_stays_as_it_is() -> None:
    assert planned(WAKING, engine("a", Rest.ASLEEP, is_cordoned=True), llama=0.0) == []
    idle = engine("a", Rest.AWAKE, in_flight=0, idle_seconds=99.0, is_cordoned=True)
    assert planned(IDLE, idle) == []


def test_busy_engines_get_help() -> None:
    busy, asleep = engine("a", Rest.AWAKE, in_flight=16), engine("b", Rest.ASLEEP)
    assert planned(WAKING, busy, asleep) == [("wake", "b")]
    assert planned(WAKING, replace(busy, in_flight=15), asleep) == []
    assert planned(WAKING, replace(busy, in_flight=None), asleep) == []
    assert planned(WAKING, busy, replace(asleep, is_changing=True), engine("c", Rest.ASLEEP)) == []


@pytest.mark.parametrize(
    ("fields", "sleeps"),
    [
        pytest.param({"in_flight": 0, "idle_seconds": 60.0}, True, id="idle"),
        pytest.param({"in_flight": 0, "idle_seconds": 59.0}, False, id="not-for-long"),
        pytest.param({"in_flight": 1, "idle_seconds": 60.0}, False, id="busy"),
        pytest.param({"in_flight": 0, "idle_seconds": None}, False, id="unknown"),
        pytest.param({"in_flight": None, "idle_seconds": 60.0}, False, id="unknown-load"),
        pytest.param({"in_flight": 0, "idle_seconds": 60.0, "awake_seconds": 1.0}, False, id="just-woken"),
        pytest.param({"in_flight": 0, "idle_seconds": 60.0, "is_changing": True}, False, id="changing"),
    ],
)
def test_idle_engines_sleep(fields: dict[str, Any], sleeps: bool) -> None:
    assert planned(IDLE, engine("a", Rest.AWAKE, **fields)) == ([("sleep", "a")] if sleeps else [])


def test_some_stay_awake() -> None:
    idle = [engine(name, Rest.AWAKE, in_flight=0, idle_seconds=99.0) for name in "abc"]
    assert planned(changed(IDLE, min_awake=2), *idle) == [("sleep", "c")]
    changing = [*idle[:2], replace(idle[2], is_changing=True)]
    assert planned(changed(IDLE, min_awake=2), *changing) == []


def test_an_engine_that_cannot_be_asked_is_neither_woken_nor_put_to_sleep() -> None:
    for rest in (Rest.GONE, Rest.UNKNOWN):
        assert planned(WAKING, engine("a", rest), llama=0.0) == []
        assert planned(IDLE, engine("a", rest, in_flight=0, idle_seconds=99.0)) == []


GROUP = {name: ModelPolicy(name, wake_on_request=True, group="gpu0") for name in ("llama", "qwen", "phi")}


def test_a_group_sleeps_before_another_member_wakes() -> None:
    one, other = engine("a", Rest.AWAKE), engine("b", Rest.ASLEEP, "qwen")
    plan = turns(GROUP, (one, other), {"qwen": 1.0})
    assert plan == (Turn(Verb.SLEEP, "a", GROUP["llama"]),)
    for rest in (one, replace(one, is_changing=True), replace(one, rest=Rest.UNKNOWN)):
        assert all(turn.verb is Verb.SLEEP for turn in turns(GROUP, (rest, other), {"qwen": 1.0}))
    for rest in (replace(one, rest=Rest.ASLEEP), replace(one, rest=Rest.GONE)):
        assert turns(GROUP, (rest, other), {"qwen": 1.0}) == (Turn(Verb.WAKE, "b", GROUP["qwen"]),)


def test_a_member_keeps_its_place_for_a_while() -> None:
    one, other = engine("a", Rest.AWAKE, awake_seconds=1.0), engine("b", Rest.ASLEEP, "qwen")
    assert turns(GROUP, (one, other), {"qwen": 1.0}) == ()


def test_the_member_that_waits_longest_is_next() -> None:
    asleep = engine("b", Rest.ASLEEP, "qwen"), engine("c", Rest.ASLEEP, "phi")
    assert [one.identity for one in turns(GROUP, asleep, {"qwen": 1.0, "phi": 2.0})] == ["c"]


def test_of_two_members_awake_the_idle_one_sleeps() -> None:
    one = engine("a", Rest.AWAKE, idle_seconds=10.0)
    other = engine("b", Rest.AWAKE, "qwen", idle_seconds=1.0)
    assert [(turn.verb, turn.identity) for turn in turns(GROUP, (one, other), {})] == [(Verb.SLEEP, "a")]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_two_members_of_a_group_never_hold_the_gpu_at_once(seed: int) -> None:
    """Random demands, steps that take random time, engines that die and come back."""
    dice = random.Random(seed)
    members = {f"e{number}": ("llama", "qwen", "phi")[number % 3] for number in range(4)}
    state = {name: engine(name, Rest.ASLEEP, model) for name, model in members.items()}
    running: dict[str, Verb] = {}
    woken: set[str] = set()
    for _ in range(3000):
        if len(woken) == len(GROUP):
            break
        demands = {model: dice.random() for model in GROUP if dice.random() < 0.5}
        for turn in turns(GROUP, state.values(), demands):
            assert turn.identity not in running
            running[turn.identity] = turn.verb
            state[turn.identity] = replace(state[turn.identity], is_changing=True)
        holding = {members[name] for name, one in state.items() if one.holds_memory}
        assert len(holding) <= 1, state
        for name in [one for one in running if dice.random() < 0.4]:
            done = dice.random() < 0.8 and state[name].rest is not Rest.GONE
            rest = (Rest.AWAKE if running.pop(name) is Verb.WAKE else Rest.ASLEEP) if done else state[name].rest
            running.pop(name, None)
            state[name] = replace(state[name], rest=rest, is_changing=False)
            woken |= {members[name]} if rest is Rest.AWAKE else set()
        name = dice.choice(sorted(state))
        if dice.random() < 0.1:
            back = Rest.ASLEEP if state[name].rest is Rest.GONE else Rest.GONE
            state[name] = replace(state[name], rest=back)
    assert len(woken) == len(GROUP)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"sleep": 1}, "sleep", id="unknown"),
        pytest.param({"model": "other"}, "model", id="another-model"),
        pytest.param({"wake_on_request": 1}, "wake_on_request", id="flag"),
        pytest.param({"idle_sleep_seconds": 0}, "idle_sleep_seconds", id="zero"),
        pytest.param({"idle_sleep_seconds": "1"}, "idle_sleep_seconds", id="text"),
        pytest.param({"sleep_level": 3}, "sleep_level", id="level"),
        pytest.param({"sleep_level": 1.5}, "sleep_level", id="half-level"),
        pytest.param({"min_awake": -1}, "min_awake", id="negative"),
        pytest.param({"group": "g", "min_awake": 1}, "min_awake", id="awake-in-a-group"),
        pytest.param({"group": 7}, "group", id="group-type"),
        pytest.param({"group": "a\nb"}, "group", id="group-name"),
    ],
)
def test_what_is_wrong_with_a_policy_is_named(fields: dict[str, Any], param: str) -> None:
    problem = read_policy("llama", fields)
    assert isinstance(problem, Problem)
    error = error_object(problem)
    assert error["param"] == param
    assert "e+" not in str(error["message"])  # numbers as people write them


def test_a_policy_is_read() -> None:
    fields = {"wake_on_request": True, "idle_sleep_seconds": 900, "sleep_level": 2, "group": "gpu0", "min_awake": None}
    expected = ModelPolicy("llama", wake_on_request=True, idle_sleep_seconds=900, sleep_level=2, group="gpu0")
    assert read_policy("llama", fields) == expected
