"""From what a client says and a model's configuration to a plan: who goes before whom, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aibrix_extproc.core.fleet.modelconfig import ModelConfig, parse_config
from aibrix_extproc.core.openai.contract.errors import Problem, shape
from aibrix_extproc.core.placing import RoutingHeaders
from aibrix_extproc.core.routing.mix import parse_mix
from aibrix_extproc.core.routing.plan import Plan, plan_of, unknown_strategies
from aibrix_extproc.core.routing.registry import NOT_HERE, STRATEGIES
from aibrix_extproc.settings import RoutingSettings

RANDOM = parse_mix("random")
PROFILES = """{"defaultProfile": "p", "profiles": {
    "p": {"routingStrategy": "round-robin"}, "q": {"routingStrategy": "power-of-two"}, "none": {},
    "odd": {"routingStrategy": "prefix-cache-preble"},
    "long": {"routingStrategy": "random", "routingConfig": {"promptTokensGte": 1000}}
}}"""
LOCKED = '{"lockedRoutingStrategy": "random", "profiles": {"default": {"routingStrategy": "round-robin"}}}'


def planned(config: str = "", default: str = "least-request", **headers: Any) -> Plan:
    """A plan; a refusal fails the test."""
    made = plan_of(RoutingHeaders(**headers), parse_config(config) if config else None, parse_mix(default), 0.5)
    assert isinstance(made, Plan)
    return made


@pytest.mark.parametrize(
    ("config", "headers", "strategy"),
    [
        ("", {}, "least-request"),
        ("", {"strategy": "random"}, "random"),
        ("", {"strategy": " Round-Robin "}, "round-robin"),
        ("", {"strategy": ""}, "least-request"),
        ("", {"strategy": "  "}, "least-request"),
        ("", {"profile": "q"}, "least-request"),
        (PROFILES, {}, "round-robin"),
        (PROFILES, {"profile": "q"}, "power-of-two"),
        (PROFILES, {"profile": " q "}, "power-of-two"),
        (PROFILES, {"profile": "Q"}, "round-robin"),
        (PROFILES, {"profile": "nope"}, "round-robin"),
        (PROFILES, {"profile": ""}, "round-robin"),
        (PROFILES, {"profile": "none"}, "least-request"),
        (PROFILES, {"profile": "odd"}, "least-request"),
        (PROFILES, {"profile": "q", "strategy": "random"}, "random"),
        (PROFILES, {"profile": "q", "strategy": " "}, "power-of-two"),
        (PROFILES, {"profile": "auto", "prompt_tokens": 1000}, "random"),
        (PROFILES, {"profile": "auto", "prompt_tokens": 999}, "round-robin"),
        (PROFILES, {"profile": "auto"}, "round-robin"),
        (LOCKED, {}, "random"),
        (LOCKED, {"strategy": "round-robin"}, "random"),
        (LOCKED, {"strategy": "no-such"}, "random"),
        ('{"lockedRoutingStrategy": "slo"}', {"strategy": "round-robin"}, "least-request"),
        ('{"profiles": {"p": {"routingStrategy": "random"}}}', {}, "least-request"),
        ("{}", {"profile": "auto"}, "least-request"),
    ],
)
def test_lock_goes_before_the_client_and_that_before_the_profile(
    config: str, headers: dict[str, Any], strategy: str
) -> None:
    assert planned(config, **headers).mix.label == strategy


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"profile": "auto", "prompt_tokens": 5000}, "long"),
        ({"profile": "Auto", "prompt_tokens": 1}, "p"),
        ({"profile": "long"}, None),
        ({}, None),
    ],
)
def test_profile_is_told_when_it_was_chosen_for_the_client(headers: dict[str, Any], told: str | None) -> None:
    assert dict(planned(PROFILES, **headers).answer_headers).get("x-aibrix-config-profile") == told


@pytest.mark.parametrize("name", sorted(NOT_HERE))
def test_strategy_that_only_aibrix_has_is_refused_with_the_nearest_one(name: str) -> None:
    problem = plan_of(RoutingHeaders(strategy=name.upper()), None, RANDOM, 0.5)
    assert isinstance(problem, Problem)
    body = shape(problem).body.decode()
    assert (problem.http_status, problem.key) == (400, "unsupported_strategy")
    assert f"'{name}'" in body
    assert f"'{NOT_HERE[name]}' comes nearest" in body
    assert "'least-request'" in body


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("no-such", "unknown_strategy"),
        ("x" * 10_000, "unknown_strategy"),
        ("\x00{model}", "unknown_strategy"),
        ("least-request:2,nope:1", "unsupported_strategy"),
        ("least-request:2,prefix-cache-preble", "unsupported_strategy"),
        ("random,random", "unsupported_strategy"),
        ("random:-1", "unsupported_strategy"),
        ("random:1000001", "unsupported_strategy"),
        ("random:", "unsupported_strategy"),
        ("random:0,least-request:0", "unsupported_strategy"),
        ("random,,least-request", "unsupported_strategy"),
        (":2", "unsupported_strategy"),
        (",".join(f"a{number}" for number in range(9)), "unsupported_strategy"),
        ("random:1," * 1000, "unsupported_strategy"),
    ],
    ids=[
        "unknown",
        "long",
        "odd",
        "unknown-part",
        "part-of-aibrix",
        "twice",
        "negative",
        "large",
        "no-number",
        "all-out",
        "gap",
        "no-name",
        "many",
        "very-long",
    ],
)
def test_strategy_that_nobody_has_is_refused_shortly(given: str, key: str) -> None:
    problem = plan_of(RoutingHeaders(strategy=given), None, RANDOM, 0.5)
    assert isinstance(problem, Problem)
    shaped = shape(problem)
    assert (shaped.status, problem.key) == (400, key)
    assert len(shaped.body) < 800


def test_filter_that_cannot_be_read_is_a_400_that_says_why() -> None:
    problem = plan_of(RoutingHeaders(external_filter="a=b=c"), None, RANDOM, 0.5)
    assert isinstance(problem, Problem)
    shaped = shape(problem)
    assert (shaped.status, problem.row.param) == (400, "external-filter")
    assert b"expected ',' before '='" in shaped.body


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_session_is_told_by_the_strategy_that_keeps_it_and_by_no_other(strategy: str) -> None:
    for sent in (None, "my-session"):
        plan = planned(strategy=strategy, session=sent)
        told = dict(plan.answer_headers).get("x-session-id")
        if strategy not in ("session-affinity", "balanced"):
            assert (told, plan.session) == (None, "")
        else:
            assert told == plan.session
            assert sent in (None, told)
            assert told


def test_new_sessions_have_different_ids_that_hold_nothing_but_chance() -> None:
    made = {plan_of(RoutingHeaders(strategy="session-affinity"), None, RANDOM, step / 64) for step in range(64)}
    ids = {plan.session for plan in made if isinstance(plan, Plan)}
    assert len(ids) == 64
    assert {len(one) for one in ids} == {14}


def test_strategies_of_a_configuration_that_are_not_here_are_named() -> None:
    assert unknown_strategies(parse_config(PROFILES)) == ("prefix-cache-preble",)
    assert unknown_strategies(parse_config(LOCKED)) == ()


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("least-request:2,random:1", "least-request:2,random:1"),
        (" Least-Request : 2 , RANDOM ", "least-request:2,random:1"),
        ("least-request:2", "least-request"),
        ("least-request,random:0", "least-request"),
        ("random:1000000,round-robin:007", "random:1000000,round-robin:7"),
    ],
)
def test_combination_is_taken_from_header_profile_lock_and_setting(text: str, label: str) -> None:
    assert planned(strategy=text).mix.label == label
    for config in ({"profiles": {"default": {"routingStrategy": text}}}, {"lockedRoutingStrategy": text}):
        assert planned(json.dumps(config)).mix.label == label
    assert planned(default=text).mix.label == label
    assert RoutingSettings(strategy=text).strategy == label


@pytest.mark.parametrize("text", ["random:x", "nope:1,random", "random,random"])
def test_combination_that_cannot_be_read_gives_way_in_a_configuration_and_is_refused_as_a_setting(text: str) -> None:
    config = json.dumps({"lockedRoutingStrategy": text})
    assert planned(config).mix.label == "least-request"
    assert unknown_strategies(parse_config(config)) == (text,)
    with pytest.raises(ValidationError, match="least-request:2,random:1"):
        RoutingSettings(strategy=text)


def test_combination_with_a_part_that_keeps_sessions_tells_the_session() -> None:
    plan = planned(strategy="session-affinity:2,least-request:1", session="mine")
    assert (plan.session, dict(plan.answer_headers)) == ("mine", {"x-session-id": "mine"})


TEXT = (
    st.none()
    | st.text(max_size=40)
    | st.sampled_from(["auto", "p", "random", "session-affinity", "a in (b)", "random:2,least-request"])
)


@given(
    st.builds(RoutingHeaders, TEXT, TEXT, TEXT, TEXT, st.none() | st.integers(0), st.none() | st.integers(0)),
    st.sampled_from([None, parse_config(PROFILES), parse_config(LOCKED), parse_config("{}")]),
    st.floats(0, 1, exclude_max=True),
)
def test_any_headers_give_a_plan_or_a_refusal(headers: RoutingHeaders, config: ModelConfig | None, draw: float) -> None:
    made = plan_of(headers, config, RANDOM, draw)
    if isinstance(made, Plan):
        assert {name for name, _ in made.mix.parts} <= STRATEGIES.keys()
    else:
        assert shape(made).status == 400
