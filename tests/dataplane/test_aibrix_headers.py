"""AIBrix's request headers and the annotation with profiles, through a real Envoy."""

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.dataplane.engines import Engine, EngineSpec, header
from tests.dataplane.openai_error import assert_openai_error
from tests.dataplane.raw import Answer
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

PATH = "/v1/chat/completions"
CONFIG = "model.aibrix.ai/config"
FAST, SLOW = {"tier": "fast", "zone": "a"}, {"tier": "slow", "zone": "a"}
LOCKED = {CONFIG: '{"lockedRoutingStrategy": "session-affinity", "profiles": {"default": {}}}'}
PROFILES = {CONFIG: json.dumps({
    "defaultProfile": "turns",
    "profiles": {
        "turns": {"routingStrategy": "round-robin"},
        "talk": {"routingStrategy": "session-affinity"},
        "long": {"routingStrategy": "session-affinity", "routingConfig": {"promptTokensGte": 500}},
        "odd": {"routingStrategy": "prefix-cache-preble"},
    },
})}  # fmt: skip

FLEET = (
    EngineSpec("fast-1", ("chat-m",), labels=FAST),
    EngineSpec("fast-2", ("chat-m",), labels=FAST),
    EngineSpec("slow", ("chat-m",), labels=SLOW),
    EngineSpec("locked-1", ("locked-m",), annotations=LOCKED),
    EngineSpec("locked-2", ("locked-m",), annotations=LOCKED),
    EngineSpec("profiles-1", ("profiles-m",), annotations=PROFILES),
    EngineSpec("profiles-2", ("profiles-m",), annotations=PROFILES),
)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(Stack(tmp_path_factory.mktemp("aibrix"), FLEET)) as started:
        yield started


def asked(fleet: Stack, model: str = "chat-m", text: str = "hello", **headers: str) -> tuple[Answer, Engine | None]:
    """One request, and the engine that took it."""
    marker = str(uuid.uuid4())
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4}
    answer = fleet.post(PATH, body, x_marker=marker, **headers)
    found = [engine for engine in fleet.engines_of(model) if engine.request(marker)]
    return answer, found[0] if found else None


def takers(fleet: Stack, count: int = 6, **asking: str) -> list[str]:
    """The engines that took so many requests, all of which were answered."""
    names = []
    for _ in range(count):
        answer, engine = asked(fleet, **asking)
        assert answer.status == 200, answer.body
        assert engine is not None
        names.append(engine.spec.name)
    return names


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier=fast", {"fast-1", "fast-2"}),
        ("tier in (slow), zone=a", {"slow"}),
        ("tier!=fast", {"slow"}),
        ("!nothing", {"fast-1", "fast-2", "slow"}),
    ],
)
def test_filter_picks_only_engines_whose_labels_match(fleet: Stack, selector: str, expected: set[str]) -> None:
    assert set(takers(fleet, external_filter=selector, routing_strategy="round-robin")) == expected
    assert set(takers(fleet, count=3, external_filter=selector)) <= expected  # AIBrix's own needs a strategy for it


def test_filter_that_cannot_be_read_is_a_400_and_one_that_matches_nothing_a_503(fleet: Stack) -> None:
    answer, engine = asked(fleet, external_filter="tier==fast==slow")
    assert_openai_error(answer, 400, code="invalid_value", param="external-filter", contains="label selector")
    assert engine is None
    answer, engine = asked(fleet, external_filter="tier=none")
    assert_openai_error(answer, 503, code="no_matching_engine", param="external-filter", contains="`chat-m`")
    assert answer.header("x-should-retry") == "false"
    assert engine is None


def test_filter_that_matches_nothing_is_not_tried_again_by_the_sdk(fleet: Stack) -> None:
    before = fleet.worker.total("aibrix_extproc_exchanges_total")
    with fleet.client(max_retries=2) as sdk, pytest.raises(openai.InternalServerError):
        sdk.chat.completions.create(
            model="chat-m", messages=[{"role": "user", "content": "x"}], extra_headers={"external-filter": "tier=none"}
        )
    eventually(lambda: fleet.worker.total("aibrix_extproc_exchanges_total") > before, "the exchange is counted")
    assert fleet.worker.total("aibrix_extproc_exchanges_total") == before + 1


@pytest.mark.parametrize("strategy", ["prefix-cache-preble", "least-request:2,prefix-cache-preble:1"])
def test_strategy_that_only_aibrix_has_is_a_400_that_says_so(fleet: Stack, strategy: str) -> None:
    answer, _ = asked(fleet, routing_strategy=strategy)
    assert_openai_error(answer, 400, code="unsupported_value", param="routing-strategy", contains="'predicted'")


def test_strategies_may_be_combined_with_weights(fleet: Stack) -> None:
    answer, _ = asked(fleet, routing_strategy="least-request:2,random:1")
    assert answer.status == 200


@pytest.mark.parametrize("strategy", ["", "round-robin", "prefix-cache-preble", "no-such"])
def test_locked_strategy_goes_before_the_header_whatever_it_says(fleet: Stack, strategy: str) -> None:
    named: Any = {"model": "locked-m", "x_session_id": "mine", "routing_strategy": strategy}
    assert len(set(takers(fleet, **named))) == 1
    answer, _ = asked(fleet, **named)
    assert answer.header("x-session-id") == "mine"


@pytest.mark.parametrize(
    ("headers", "text", "sticks"),
    [
        ({}, "hello", False),
        ({"config_profile": "talk"}, "hello", True),
        ({"config_profile": "nope"}, "hello", False),
        ({"config_profile": "talk", "routing_strategy": "round-robin"}, "hello", False),
        ({"config_profile": "auto"}, "hello", False),
        ({"config_profile": "auto"}, "hello " * 500, True),
    ],
    ids=["default", "named", "unknown", "header-first", "auto-short", "auto-long"],
)
def test_profile_decides_where_the_client_names_no_strategy(
    fleet: Stack, headers: dict[str, str], text: str, *, sticks: bool
) -> None:
    named: Any = {"model": "profiles-m", "text": text, "x_session_id": "mine", **headers}
    assert (len(set(takers(fleet, **named))) == 1) is sticks
    answer, _ = asked(fleet, **named)
    assert (answer.header("x-session-id") == "mine") is sticks
    chosen = {"hello": "turns"}.get(text, "long") if headers.get("config_profile") == "auto" else None
    assert answer.header("x-aibrix-config-profile") == chosen


def test_strategy_of_a_profile_that_is_not_here_fails_no_request_and_is_told_the_operator(fleet: Stack) -> None:
    answer, _ = asked(fleet, model="profiles-m", config_profile="odd")
    assert answer.status == 200
    assert "prefix-cache-preble" in fleet.worker.admin("/readyz").json()["configs"]["profiles-m"]


def test_headers_that_steer_the_gateway_stop_there(fleet: Stack) -> None:
    marker = str(uuid.uuid4())
    steering = {
        "external-filter": "tier=slow", "config-profile": "auto", "routing-strategy": "session-affinity",
        "x-session-id": "s", "x-aibrix-session-key": "k", "user": "somebody",
    }  # fmt: skip
    body = {"model": "chat-m", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    assert fleet.post(PATH, body, x_marker=marker, **steering).status == 200
    seen = fleet.engine("slow").request(marker)
    assert seen is not None
    assert [name for name in steering if header(seen, name) is not None] == []


def test_session_is_told_and_sticks_and_others_go_elsewhere(fleet: Stack) -> None:
    answer, engine = asked(fleet, routing_strategy="session-affinity")
    session = answer.header("x-session-id")
    assert session
    assert engine is not None
    assert set(takers(fleet, routing_strategy="session-affinity", x_session_id=session)) == {engine.spec.name}
    by_key = takers(fleet, routing_strategy="session-affinity", x_aibrix_session_key=session)
    assert set(by_key) == {engine.spec.name}
    others = [asked(fleet, routing_strategy="session-affinity")[1] for _ in range(24)]
    assert len({other.spec.name for other in others if other is not None}) > 1


def test_session_of_an_sdk_is_read_from_its_raw_response(fleet: Stack) -> None:
    steering = {"routing-strategy": "session-affinity"}
    with fleet.client(default_headers=steering) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(
            model="chat-m", messages=[{"role": "user", "content": "x"}], stream=True
        )
        assert raw.headers["x-session-id"]
        assert list(raw.parse())


@pytest.mark.parametrize("form", ["plain", "aibrix"])
def test_session_that_names_an_address_chooses_none(fleet: Stack, form: str) -> None:
    """AIBrix's session id is the pod's address in base64: whoever writes one chooses where a request goes."""
    for target in (fleet.engine("slow").address, fleet.engine("locked-1").address, "10.255.255.1:22"):
        forged = target if form == "plain" else base64.b64encode(target.encode()).decode()
        got = takers(
            fleet, count=2, routing_strategy="session-affinity", x_session_id=forged, external_filter="tier=fast"
        )
        assert set(got) <= {"fast-1", "fast-2"}
        answer, _ = asked(fleet, routing_strategy="session-affinity", x_session_id=forged)
        assert answer.header("x-session-id") == forged  # it is only a name


def test_new_session_id_tells_no_address(fleet: Stack) -> None:
    ids = {asked(fleet, routing_strategy="session-affinity")[0].header("x-session-id") or "" for _ in range(8)}
    assert len(ids) == 8
    for session in ids:
        assert len(session) == 14
        assert int(session, 16) < 2**53


def test_session_moves_when_its_engine_leaves_and_returns_with_it(fleet: Stack) -> None:
    _, engine = asked(fleet, routing_strategy="session-affinity", x_session_id="wanderer")
    assert engine is not None
    name = engine.spec.name
    named: Any = {"routing_strategy": "session-affinity", "x_session_id": "wanderer"}
    fleet.write_fleet(*(spec.name for spec in FLEET if spec.name != name))
    try:
        eventually(lambda: takers(fleet, count=1, **named) != [name], "the session has moved")
        assert len(set(takers(fleet, **named))) == 1
    finally:
        fleet.write_fleet()
    eventually(lambda: takers(fleet, count=1, **named) == [name], "the session is back")
