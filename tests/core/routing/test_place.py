"""Where requests are placed: which endpoints are left, who decides between them, and what the client is told."""

from typing import Any

import pytest

from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot, Task
from aibrix_extproc.core.fleet.modelconfig import parse_config
from aibrix_extproc.core.openai.contract.errors import Problem, error_object
from aibrix_extproc.core.placing import ATTEMPTS, Caller, RouteQuery, RoutingHeaders
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Decision
from aibrix_extproc.core.routing.request import Place
from aibrix_extproc.core.routing.response_ids import KEEP_SECONDS
from tests.build import CALLER, MODEL, a_placer, a_snapshot, an_endpoint, an_operation

FAST, SLOW = {"tier": "fast"}, {"tier": "slow"}
LOCKED = parse_config('{"lockedRoutingStrategy": "session-affinity"}')

SECRET = b"what the ids of responses are made with"


def asked(
    snapshot: Snapshot,
    *,
    default: str = "least-request",
    held: str | None = None,
    operation: str = "chat_completion",
    model: str = MODEL,
    caller: Caller = CALLER,
    owners: ResponseOwners | None = None,
    at: float = 1.0,
    candidates: int = ATTEMPTS,
    **headers: Any,
) -> Any:
    """What is decided about one request for MODEL."""
    placer = a_placer(default, owners=owners, candidates=candidates, wall_at=at)
    request = Place(
        an_operation(operation),
        RouteQuery(model),
        RoutingHeaders(**headers) if headers else None,
        caller,
        stored_response=held,
    )
    return placer.place(request, snapshot)


def placed(snapshot: Snapshot, **asking: Any) -> Decision:
    answer = asked(snapshot, **asking)
    assert isinstance(answer, Decision)
    return answer


def problem(snapshot: Snapshot, **asking: Any) -> Problem:
    answer = asked(snapshot, **asking)
    assert isinstance(answer, Problem)
    return answer


def labelled(number: int, labels: dict[str, str], **changes: Any) -> Endpoint:
    return an_endpoint(number, labels=labels, **changes)


def test_request_without_routing_headers_is_placed_by_the_gateways_strategy_and_nothing_is_told() -> None:
    answer = placed(a_snapshot(an_endpoint(1), an_endpoint(2)))
    assert (answer.placement.strategy, answer.answer_headers) == ("least-request", ())


@pytest.mark.parametrize(("most", "there"), [(4, 4), (8, 8), (16, 10)])
def test_placement_has_as_many_candidates_as_there_are_attempts(most: int, there: int) -> None:
    fleet = a_snapshot(*map(an_endpoint, range(1, 11)))
    placement = placed(fleet, candidates=most).placement
    assert len({one.address for one in placement.candidates}) == there
    assert len(placement.destination(most).split(",")) == most


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
    ("headers", "key"),
    [
        ({"external_filter": "tier="}, "no_matching_engine"),
        ({"external_filter": "tier=="}, "no_matching_engine"),
        ({"external_filter": "=fast"}, "invalid_external_filter"),
        ({"strategy": "no-such"}, "unknown_strategy"),
        ({"strategy": "prefix-cache-preble"}, "unsupported_strategy"),
    ],
)
def test_hint_that_cannot_be_followed_is_refused(headers: dict[str, str], key: str) -> None:
    assert problem(a_snapshot(labelled(1, FAST)), **headers).key == key


def test_unknown_model_is_refused_before_the_headers_are_looked_at() -> None:
    fleet = a_snapshot(an_endpoint(1, models=("other",)))
    assert problem(fleet, strategy="no-such", external_filter="((").key == "model_not_found"


def test_lock_of_the_model_counts_for_a_request_that_says_nothing_and_for_one_that_says_otherwise() -> None:
    fleet = a_snapshot(an_endpoint(1, config=LOCKED), an_endpoint(2, config=LOCKED))
    for headers in ({}, {"strategy": "random"}, {"strategy": "no-such"}):
        answer = placed(fleet, **headers)
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


def made_by(identity: str, *, model: str = MODEL, caller: Caller = CALLER) -> str:
    """The id of a response that another gateway process has placed at one engine."""
    engine = an_endpoint(1, identity=identity, models=(model,))
    answer = placed(a_snapshot(engine), operation="response", model=model, caller=caller)
    assert answer.response_id is not None
    return answer.response_id


@pytest.mark.parametrize("headers", [{"external_filter": "tier=slow"}, {"external_filter": "(("}, {"strategy": "x"}])
def test_request_that_continues_a_response_goes_to_its_engine_whatever_else_it_says(headers: dict[str, str]) -> None:
    fleet = a_snapshot(labelled(1, FAST, config=LOCKED), labelled(2, SLOW))
    answer = placed(fleet, held=made_by("engine-1"), **headers)
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


def test_only_an_operation_that_makes_responses_gets_an_id_for_one() -> None:
    assert placed(a_snapshot()).response_id is None
    assert placed(a_snapshot(), operation="embedding").response_id is None


def test_response_is_found_by_its_id_in_a_process_that_never_saw_it() -> None:
    fleet = a_snapshot(*(an_endpoint(number) for number in (1, 2, 3)))
    for number in (1, 2, 3):
        held = made_by(f"engine-{number}")
        assert placed(fleet, held=held, operation="response").placement.first.identity == f"engine-{number}"
        read = placed(fleet, held=held, operation="retrieve_response", model="")
        assert (read.placement.first.identity, read.placement.model) == (f"engine-{number}", MODEL)


def test_response_that_a_retry_moved_is_found_where_it_went() -> None:
    fleet = a_snapshot(an_endpoint(1), an_endpoint(2))
    owners = ResponseOwners([SECRET])
    made = placed(fleet, operation="response", owners=owners)
    assert made.response_id is not None
    first, second = made.placement.candidates
    owners.record_move(made.response_id, second.identity, 1.0)
    for seen_by, identity in ((owners, second.identity), (None, first.identity)):
        found = placed(fleet, held=made.response_id, operation="response", owners=seen_by)
        assert [one.identity for one in found.placement.candidates] == [identity]
    without_first = a_snapshot(second)
    assert placed(without_first, held=made.response_id, operation="response").placement.first == second
    assert problem(a_snapshot(first), held=made.response_id, owners=owners).key == "previous_response_not_found"


OTHER = Caller("somebody-else")
LOST: dict[str, dict[str, Any]] = {
    "invented": {"held": "resp_nope"},
    "none": {"held": ""},
    "of another secret": {"owners": ResponseOwners([b"another"])},
    "of another caller": {"caller": OTHER},
    "too old": {"at": 2.0 + KEEP_SECONDS},
    "of an engine that left": {"snapshot": a_snapshot(an_endpoint(2))},
}


@pytest.mark.parametrize("change", list(LOST.values()), ids=list(LOST))
def test_response_that_is_not_the_callers_or_is_gone_is_not_found(change: dict[str, Any]) -> None:
    asking: dict[str, Any] = {"snapshot": a_snapshot(), "held": made_by("engine-1")} | change
    going_on = problem(**asking, operation="response")
    assert (going_on.key, going_on.http_status) == ("previous_response_not_found", 400)
    assert error_object(going_on) == {
        "message": f"Previous response with id '{asking['held']}' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }
    read = problem(**asking, operation="retrieve_response", model="")
    assert (read.key, read.http_status, read.param) == ("not_found", 404, "response_id")


def test_response_of_an_engine_that_is_not_ready_is_worth_waiting_for() -> None:
    fleet = a_snapshot(an_endpoint(1, health=Health.ASLEEP), an_endpoint(2))
    for operation, model in (("response", MODEL), ("retrieve_response", "")):
        assert problem(fleet, held=made_by("engine-1"), operation=operation, model=model).key == "model_not_ready"


def test_response_cannot_be_continued_with_a_model_of_other_engines() -> None:
    fleet = a_snapshot(an_endpoint(1), an_endpoint(2, models=("other",)))
    assert problem(fleet, held=made_by("engine-1"), operation="response", model="other").key == (
        "previous_response_not_found"
    )
    assert problem(fleet, held=made_by("engine-1"), operation="response", model="nope").key == "model_not_found"


def test_response_whose_model_the_caller_may_no_longer_use_does_not_exist() -> None:
    narrow = Caller(CALLER.name, models=("other",))
    held = made_by("engine-1")
    found = problem(a_snapshot(), held=held, caller=narrow, operation="retrieve_response", model="")
    assert found.http_status == 404


def test_rotated_secret_still_reads_what_the_old_one_made() -> None:
    held = made_by("engine-1")
    both = ResponseOwners([b"new", SECRET])
    assert placed(a_snapshot(), held=held, owners=both).placement.first.identity == "engine-1"
    made = placed(a_snapshot(), operation="response", owners=both)
    assert problem(a_snapshot(), held=made.response_id).key == "previous_response_not_found"
    both.use_secrets([b"new"])
    assert problem(a_snapshot(), held=held, owners=both).key == "previous_response_not_found"


def test_operation_that_a_frontend_lacks_goes_to_another_engine_or_is_refused() -> None:
    rust, python = an_endpoint(1, frontend="rust"), an_endpoint(2)

    both = a_snapshot(rust, python)
    assert {one.identity for one in asked(both, operation="response").placement.candidates} == {python.identity}
    assert len(asked(both).placement.candidates) == 2
    alone = a_snapshot(rust)
    assert asked(alone, operation="message").key == "model_wrong_task"
    assert asked(alone).placement.first.identity == rust.identity
