"""Decisions that are kept: bounded, found by the request's id, complete once the exchange and its charge are known."""

import gc
from typing import Any

import pytest
from msgspec.structs import replace

from aibrix_extproc.app import decisions as module
from aibrix_extproc.app.decisions import Decisions
from aibrix_extproc.app.explaining import Explainer
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.core.exchange.asks import Placed
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.exchange.outputs import Finished, Outcome
from aibrix_extproc.core.exchange.policy import ExchangePolicy
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.openai.contract.headers import DECISION
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import Caller, RouteQuery
from aibrix_extproc.core.routing.place import Decision
from aibrix_extproc.core.routing.record import PREDICTED_CACHED, PREDICTED_TTFT, Detail
from aibrix_extproc.core.routing.request import Place
from tests.build import MODEL, a_placer, a_snapshot, an_endpoint, an_operation

FLEET = a_snapshot(*(an_endpoint(number) for number in range(3)))


def request(request_id: str = "r-1", role: Role = Role.USER) -> Place:
    return Place(
        an_operation("chat_completion"), RouteQuery(MODEL), None, Caller("me", role=role), request_id=request_id
    )


def placing(kept: Decisions, load: LoadBook | None = None) -> Placing:
    return Placing(a_placer(load=load), lambda: FLEET, lambda: 5.0, decisions=kept)


def placed(kept: Decisions, ask: Place, load: LoadBook | None = None) -> Placed:
    answer = placing(kept, load).place(ask)
    assert isinstance(answer, Placed)
    return answer


def finished(answer: Placed, **changes: Any) -> Finished:
    fact = Finished(
        request_id="r-1", operation="chat_completion", model=MODEL, caller="me", stream=False, status=200,
        outcome=Outcome.SERVED, cause=Cause.HALF_CLOSED, problem=None, assigned_to="engine-1",
        placement=answer.placement, upstream_address="10.0.0.1:8000", body_bytes=10, started_at=5.0, placed_at=5.0,
        response_at=5.5, ended_at=6.0,
    )  # fmt: skip
    return replace(fact, **changes)


def test_decision_is_found_while_it_runs_and_complete_afterwards() -> None:
    kept = Decisions(8, lambda: 1000.0)
    answer = placed(kept, request())
    running = kept.find("r-1")
    assert running is not None
    assert (running.outcome, running.served_by, running.wall_at) == ("", "engine-0", 1000.0)
    kept.finished(finished(answer))
    usage = Usage(40, 7, 30)
    kept.charged(
        Charge(request_id="r-1", operation="chat_completion", model=MODEL, caller="me", status=200, usage=usage,
               first_seconds=0.25)
    )  # fmt: skip
    record = kept.find("r-1")
    assert record is not None
    assert (record.outcome, record.status, record.served_by) == ("served", 200, "engine-1")
    assert record.head_seconds is not None
    assert record.ttft_seconds == record.head_seconds + 0.25
    assert (record.head_seconds, record.prompt_tokens, record.cached_tokens) == (
        0.5, usage.input_tokens, usage.cached_tokens
    )  # fmt: skip
    assert kept.find("r-2") is None


def test_decisions_are_bounded_by_number_and_by_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Decisions(3, lambda: 0.0)
    for number in range(10):
        placed(kept, request(f"r-{number}"))
    assert [one.request_id for one in kept.latest(100)] == ["r-9", "r-8", "r-7"]
    placed(kept, request("r-8"))  # an id that comes again has its last decision
    assert [one.request_id for one in kept.latest(2)] == ["r-8", "r-9"]
    monkeypatch.setattr(module, "MAX_VALUES", 14)
    for number in range(20, 24):
        placed(kept, request(f"r-{number}", Role.ADMIN))  # six values each: scores and requests in flight of three
    assert len(kept) == 2


def test_decision_that_is_kept_is_one_object_for_the_garbage_collector() -> None:
    kept, placer, most = Decisions(1000, lambda: 0.0), a_placer("predicted"), 1000
    requests = [request(f"r-{number}") for number in range(most)]
    gc.collect()
    before = len(gc.get_objects())
    for one in requests:
        decision = placer.place(one, FLEET, Detail.AT_HAND)
        assert isinstance(decision, Decision)
        kept.placed(one.request_id, decision, 0.0)
        kept.finished(finished(Placed(5.0, decision.placement), request_id=one.request_id))
    for _ in range(3):  # a run leaves out a tuple if those before have left out what is in it
        gc.collect()
    assert len(kept) == most
    assert (len(gc.get_objects()) - before) / most < 1.5  # the tuple of candidates


def test_none_are_kept_where_the_setting_is_0_and_administrators_are_told_all_the_same() -> None:
    counted = list[tuple[str, str]]()
    kept = Decisions(0, lambda: 0.0, lambda *what: counted.append(what))
    assert placed(kept, request()).answer_headers == ()
    answer = placed(kept, request(role=Role.ADMIN))
    assert [name for name, _ in answer.answer_headers] == [DECISION]
    assert (len(kept), counted) == (0, [])


def test_header_of_administrators_has_the_values_of_the_candidates_and_nothing_of_the_caller() -> None:
    load = LoadBook()
    load.acquire("engine-0")
    counted = list[tuple[str, str]]()
    kept = Decisions(8, lambda: 0.0, lambda *what: counted.append(what))
    ((name, value),) = placed(kept, request(role=Role.ADMIN), load).answer_headers
    assert (name, value) == (
        DECISION,
        '{"strategy":"least-request","named_by":"setting","eligible":3,"candidates":['
        '{"endpoint":"10.0.0.1:8000","least-request":1.0,"in_flight":0},'
        '{"endpoint":"10.0.0.2:8000","least-request":1.0,"in_flight":0},'
        '{"endpoint":"10.0.0.0:8000","least-request":0.0,"in_flight":1}]}',
    )
    assert placed(kept, request()).answer_headers == ()
    assert counted == [("least-request", "setting")] * 2


def test_predictions_are_those_of_the_endpoint_that_served() -> None:
    kept = Decisions(8, lambda: 0.0)
    decision = a_placer().place(request(), FLEET, Detail.FULL)
    assert isinstance(decision, Decision)
    assert decision.trail is not None
    numbers = ((PREDICTED_TTFT, (0.1, 0.2, 0.3)), (PREDICTED_CACHED, (10.0, 20.0, 30.0)))
    kept.placed("r-1", replace(decision, trail=replace(decision.trail, numbers=numbers)), 0.25)
    first = kept.find("r-1")
    assert first is not None
    assert (first.predicted_ttft_seconds, first.predicted_cached_tokens, first.queue_seconds) == (0.1, 10.0, 0.25)
    kept.finished(finished(Placed(5.0, decision.placement), assigned_to="engine-2"))
    last = kept.find("r-1")
    assert last is not None
    assert (last.predicted_ttft_seconds, last.predicted_cached_tokens) == (0.3, 30.0)


def explainer(load: LoadBook | None = None) -> Explainer:
    return Explainer(Decisions(8, lambda: 0.0), a_placer(load=load), lambda: FLEET, ExchangePolicy(), lambda: 0.0)


def test_dry_run_is_the_decision_that_comes_next_and_counts_nothing() -> None:
    load = LoadBook()
    load.acquire("engine-0")
    dry = explainer(load)
    pages = [dry.dry_run("/v1/chat/completions", {}, b'{"model":"chat-m","messages":[]}') for _ in range(2)]
    assert pages[0] == pages[1]
    placed_somewhere, page = pages[0]
    assert placed_somewhere
    assert page["candidates"][0] == "10.0.0.1:8000"
    assert page["outcome"] == "not placed"
    assert load.total() == 1
    assert dry.latest() == {"kept": 0, "decisions": []}


@pytest.mark.parametrize(
    ("path", "headers", "body", "code"),
    [
        ("/v1/chat/completions", {}, b"{", None),
        ("/v1/chat/completions", {}, b'{"model":"other"}', "model_not_found"),
        ("/v1/chat/completions", {"routing-strategy": "none"}, b'{"model":"chat-m"}', "invalid_value"),
        ("/v1/nothing", {}, b"{}", None),
        ("/v1/files", {}, b"{}", None),
        ("/healthz", {}, b"", None),
    ],
)
def test_dry_run_of_a_request_that_would_be_refused_says_why(
    path: str, headers: dict[str, str], body: bytes, code: str | None
) -> None:
    placed_somewhere, page = explainer().dry_run(path, headers, body)
    assert not placed_somewhere
    assert page["error"]["message"]
    assert code is None or page["error"]["code"] == code
