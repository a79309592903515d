"""Where requests are placed: which endpoints are left, who decides between them, and what the client is told."""

from typing import Any

import pytest

from aibrix_extproc.app.answers import Answers
from aibrix_extproc.core.access.keys import KeyRing
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Place
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot, Task
from aibrix_extproc.core.fleet.modelconfig import parse_config
from aibrix_extproc.core.fleet.owners import Owner, ResponseOwners
from aibrix_extproc.core.fleet.placement import RouteHints, RouteQuery
from aibrix_extproc.core.openai.errors import Problem
from tests.build import CALLER, MODEL, a_snapshot, an_endpoint, an_operation

FAST, SLOW = {"tier": "fast"}, {"tier": "slow"}
LOCKED = parse_config('{"lockedRoutingStrategy": "session-affinity"}')


def asked(snapshot: Snapshot, *, default: str = "least-request", held: str | None = None, **hints: Any) -> Any:
    """The answer to one request for MODEL."""
    owners = ResponseOwners()
    owners.record("resp_1", Owner("engine-1", MODEL, CALLER.name, 0.0))
    answers = Answers(
        snapshot=lambda: snapshot,
        load=LoadBook(),
        keys=lambda: KeyRing([]),
        owners=owners,
        strategy=default,
        clock=lambda: 1.0,
        wall_clock=lambda: 1.0,
        dice=lambda: 0.5,
    )
    ask = Place(
        an_operation("chat_completion"),
        RouteQuery(MODEL),
        RouteHints(**hints) if hints else None,
        CALLER,
        held_response=held,
    )
    return answers.answer(ask)


def placed(snapshot: Snapshot, **asking: Any) -> events.Placed:
    answer = asked(snapshot, **asking)
    assert isinstance(answer, events.Placed)
    return answer


def problem(snapshot: Snapshot, **asking: Any) -> Problem:
    answer = asked(snapshot, **asking)
    assert isinstance(answer, events.Refused)
    return answer.problem


def labelled(number: int, labels: dict[str, str], **changes: Any) -> Endpoint:
    return an_endpoint(number, labels=labels, **changes)


def test_request_without_hints_is_placed_by_the_gateways_strategy_and_nothing_is_told() -> None:
    answer = placed(a_snapshot(an_endpoint(1), an_endpoint(2)))
    assert (answer.placement.strategy, answer.answer_headers) == ("least-request", ())


def test_filter_leaves_only_what_matches() -> None:
    fleet = a_snapshot(labelled(1, FAST), labelled(2, SLOW), labelled(3, FAST))
    answer = placed(fleet, external_filter="tier=fast")
    assert {one.identity for one in answer.placement.candidates} == {"engine-1", "engine-3"}


@pytest.mark.parametrize(
    ("health", "key", "status"),
    [(Health.NOT_READY, "model_not_ready", 503), (Health.READY, "no_matching_engine", 503)],
    ids=["not-ready", "none"],
)
def test_filter_that_leaves_nothing_says_whether_waiting_helps(health: Health, key: str, status: int) -> None:
    fleet = a_snapshot(labelled(1, SLOW), labelled(2, FAST if health is Health.NOT_READY else SLOW, health=health))
    found = problem(fleet, external_filter="tier=fast")
    assert (found.key, found.http_status) == (key, status)


@pytest.mark.parametrize(
    ("hints", "key"),
    [
        ({"external_filter": "tier="}, "no_matching_engine"),
        ({"external_filter": "tier=="}, "no_matching_engine"),
        ({"external_filter": "=fast"}, "invalid_external_filter"),
        ({"strategy": "no-such"}, "unknown_strategy"),
        ({"strategy": "prefix-cache"}, "unsupported_strategy"),
    ],
)
def test_hint_that_cannot_be_followed_is_refused(hints: dict[str, str], key: str) -> None:
    assert problem(a_snapshot(labelled(1, FAST)), **hints).key == key


def test_unknown_model_is_refused_before_the_hints_are_looked_at() -> None:
    fleet = a_snapshot(an_endpoint(1, models=("other",)))
    assert problem(fleet, strategy="no-such", external_filter="((").key == "model_not_found"


def test_lock_of_the_model_counts_for_a_request_that_says_nothing_and_for_one_that_says_otherwise() -> None:
    fleet = a_snapshot(an_endpoint(1, config=LOCKED), an_endpoint(2, config=LOCKED))
    for hints in ({}, {"strategy": "random"}, {"strategy": "no-such"}):
        answer = placed(fleet, **hints)
        assert answer.placement.strategy == "session-affinity"
        assert [name for name, _ in answer.answer_headers] == ["x-session-id"]


def test_configuration_of_one_model_does_not_concern_another() -> None:
    fleet = a_snapshot(an_endpoint(1), an_endpoint(2, models=("other",), config=LOCKED))
    assert placed(fleet).placement.strategy == "least-request"


def test_session_sticks_and_moves_only_when_its_endpoint_is_not_to_be_had() -> None:
    ready = [an_endpoint(number) for number in (1, 2, 3, 4)]
    first = placed(a_snapshot(*ready), strategy="session-affinity")
    session = dict(first.answer_headers)["x-session-id"]
    again = placed(a_snapshot(*ready), strategy="session-affinity", session=session)
    assert again.placement.candidates == first.placement.candidates
    assert dict(again.answer_headers) == {"x-session-id": session}
    others = [one for one in ready if one.identity != first.placement.first.identity]
    moved = placed(a_snapshot(*others), strategy="session-affinity", session=session)
    assert moved.placement.first == first.placement.candidates[1]


def test_gateway_whose_own_strategy_keeps_sessions_tells_them_to_everybody() -> None:
    answer = placed(a_snapshot(), default="session-affinity")
    assert [name for name, _ in answer.answer_headers] == ["x-session-id"]


@pytest.mark.parametrize("hints", [{"external_filter": "tier=slow"}, {"external_filter": "(("}, {"strategy": "x"}])
def test_request_that_continues_a_response_goes_to_its_engine_whatever_else_it_says(hints: dict[str, str]) -> None:
    fleet = a_snapshot(labelled(1, FAST, config=LOCKED), labelled(2, SLOW))
    answer = placed(fleet, held="resp_1", **hints)
    assert [one.identity for one in answer.placement.candidates] == ["engine-1"]
    assert answer.answer_headers == ()


@pytest.mark.parametrize("tasks", [{Task.GENERATE}, {Task.GENERATE, Task.EMBED}, set()], ids=["one", "more", "unknown"])
def test_request_goes_only_to_endpoints_of_its_model_that_do_its_task(tasks: set[Task]) -> None:
    fleet = a_snapshot(an_endpoint(1, tasks=frozenset(tasks)), an_endpoint(2, tasks=frozenset({Task.EMBED})))
    assert [one.identity for one in placed(fleet).placement.candidates] == ["engine-1"]


def test_request_whose_task_no_endpoint_of_its_model_does_is_refused() -> None:
    assert problem(a_snapshot(an_endpoint(1, tasks=frozenset({Task.EMBED})))).key == "model_wrong_task"


def test_request_whose_task_only_an_endpoint_that_is_not_ready_does_is_told_to_wait() -> None:
    able = an_endpoint(1, tasks=frozenset({Task.GENERATE}), health=Health.NOT_READY)
    assert problem(a_snapshot(able, an_endpoint(2, tasks=frozenset({Task.EMBED})))).key == "model_not_ready"
