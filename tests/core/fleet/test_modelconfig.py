"""Config profiles: what is read of AIBrix's JSON, what is refused, which profile `auto` stands for, whose counts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.modelconfig import InvalidConfig, ModelConfig, Profile, parse_config
from tests.build import MODEL, a_snapshot, an_endpoint


def config(**profiles: Any) -> ModelConfig:
    return parse_config(json.dumps({"profiles": profiles}))


def sized(**sizes: int) -> dict[str, Any]:
    return {"routingConfig": sizes}


def name_of(profile: Profile | None) -> str | None:
    return None if profile is None else profile.name


def test_whole_configuration_is_read() -> None:
    found = parse_config(
        '{"lockedRoutingStrategy": " Random ", "defaultProfile": "b", "profiles": {'
        '"a": {"routingStrategy": "least-request"}, "b": {"routingStrategy": null, "routingConfig": null}}}'
    )
    assert (found.locked_strategy, found.default_profile, sorted(found.profiles)) == ("random", "b", ["a", "b"])
    assert found.profiles["a"] == Profile("a", "least-request")
    assert found.strategies == ("random", "least-request")
    assert found.without_effect == ()


@pytest.mark.parametrize(
    ("text", "named", "chosen"),
    [
        ('{"defaultProfile": "a", "profiles": {"a": {}, "b": {}}}', "b", "b"),
        ('{"defaultProfile": "a", "profiles": {"a": {}, "b": {}}}', "c", "a"),
        ('{"defaultProfile": "a", "profiles": {"a": {}, "b": {}}}', None, "a"),
        ('{"profiles": {"default": {}, "b": {}}}', "c", "default"),
        ('{"defaultProfile": "c", "profiles": {"a": {}}}', None, None),
        ("{}", "a", None),
    ],
)
def test_profile_that_is_not_there_is_the_default_one(text: str, named: str | None, chosen: str | None) -> None:
    assert name_of(parse_config(text).profile(named)) == chosen


@pytest.mark.parametrize(
    ("profiles", "prompt", "answer", "chosen"),
    [
        ({"long": sized(promptTokensGte=100)}, 100, None, "long"),
        ({"long": sized(promptTokensGte=100)}, 99, None, "default"),
        ({"short": sized(promptTokensLt=100)}, 99, None, "short"),
        ({"short": sized(promptTokensLt=100)}, 100, None, "default"),
        ({"short": sized(promptTokensLt=100)}, None, 5, "default"),
        ({"talker": sized(maxTokensGte=10)}, 1, 10, "talker"),
        ({"talker": sized(maxTokensGte=10)}, 1, None, "default"),
        ({"brief": sized(maxTokensLt=10)}, None, 9, "brief"),
        ({"a": sized(promptTokensGte=1), "b": sized(promptTokensGte=1, maxTokensLt=9)}, 5, 5, "b"),
        ({"a": sized(promptTokensGte=1), "b": sized(promptTokensGte=3)}, 5, 5, "b"),
        ({"a": sized(promptTokensLt=50), "b": sized(promptTokensLt=9)}, 5, 5, "b"),
        ({"a": sized(maxTokensGte=1), "b": sized(maxTokensGte=3)}, 5, 5, "b"),
        ({"a": sized(maxTokensLt=50), "b": sized(maxTokensLt=9)}, 5, 5, "b"),
        ({"b": sized(promptTokensGte=1), "a": sized(promptTokensGte=1)}, 5, 5, "a"),
        ({"a": {"routingConfig": {}}}, 5, 5, "default"),
        ({"a": {"routingConfig": {"promptTokensGte": None}}}, 5, 5, "a"),
    ],
)
def test_auto_is_the_most_precise_profile_that_fits(
    profiles: dict[str, Any], prompt: int | None, answer: int | None, chosen: str
) -> None:
    assert name_of(config(default={}, **profiles).profile_for(prompt, answer)) == chosen


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ('{"other": 1, "profiles": {"a": {"requestsPerSecond": 5}}}', ("other", "profiles.a.requestsPerSecond")),
        ('{"profiles": {"a": {"routingConfig": {"combined": true, "maxTokensLt": 5}}}}',
         ("profiles.a.routingConfig.combined",)),
        ('{"profiles": {"a": {"routingConfig": {"maxTokensLt": "5"}}}}', ("profiles.a.routingConfig",)),
        ('{"profiles": {"a": {"routingConfig": [1]}}}', ("profiles.a.routingConfig",)),
    ],
    ids=["limits", "prefill", "text-size", "list"],
)  # fmt: skip
def test_member_that_nothing_reads_is_named_and_the_rest_counts(text: str, ignored: tuple[str, ...]) -> None:
    found = parse_config(text)
    assert found.without_effect == ignored
    assert "a" in found.profiles


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", '"x"', "1", '{"profiles": []}', '{"profiles": {"a": 1}}', '{"profiles": {"a": null}}',
        '{"lockedRoutingStrategy": 1}', '{"defaultProfile": {}}', '{"profiles": {"a": {"routingStrategy": 1}}}',
        "[" * 100_000, "{" + " " * 70_000 + "}", "\ud800",
    ],
    ids=[
        "empty", "cut", "null", "list", "text", "number", "profile-list", "profile-number", "profile-null", "locked",
        "default", "strategy", "deep", "large", "surrogate",
    ],
)  # fmt: skip
def test_text_that_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig):
        parse_config(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["profiles", "routingConfig", "routingStrategy", "promptTokensGte", "defaultProfile", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON.map(json.dumps) | st.text(max_size=40))
def test_any_text_is_a_configuration_or_refused(text: str) -> None:
    try:
        found = parse_config(text)
    except InvalidConfig:
        return
    chosen = found.profile_for(5, 5)
    assert chosen is None or chosen is found.profiles[chosen.name]


def carrying(number: int, text: str, **changes: Any) -> Endpoint:
    return an_endpoint(number, config=parse_config(text), **changes)


A, B = '{"defaultProfile": "a"}', '{"defaultProfile": "b"}'


@pytest.mark.parametrize(
    ("endpoints", "counts"),
    [
        ((an_endpoint(1),), None),
        ((an_endpoint(1), carrying(2, B)), B),
        ((carrying(1, A), carrying(2, B), carrying(3, B)), B),
        ((carrying(1, A), carrying(2, B)), A),
        ((carrying(1, B), carrying(2, A)), B),
        ((carrying(1, A, name="z"), carrying(2, B, name="y")), B),
        ((carrying(1, A, health=Health.NOT_READY), carrying(2, A), carrying(3, B)), A),
        ((carrying(1, A, health=Health.DRAINING), carrying(2, A, health=Health.DRAINING), carrying(3, B)), B),
    ],
    ids=["none", "one", "most", "tie", "tie-turned", "tie-by-name", "not-ready", "leaving"],
)
def test_configuration_of_most_endpoints_counts_whatever_their_order(
    endpoints: tuple[Endpoint, ...], counts: str | None
) -> None:
    for order in (endpoints, endpoints[::-1]):
        found = a_snapshot(*order).configs.get(MODEL)
        assert (None if found is None else found.text) == counts


def test_configuration_counts_for_every_model_of_its_endpoint() -> None:
    snapshot = a_snapshot(carrying(1, A, models=("base", "lora")), an_endpoint(2, models=("other",)))
    assert set(snapshot.configs) == {"base", "lora"}
