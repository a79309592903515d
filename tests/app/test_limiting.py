"""The limiter: what it reserves, refunds and settles, and what it warns of."""

import logging
from typing import Any

import pytest
from msgspec.structs import replace

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.app.limiting import Limiter
from aibrix_extproc.core.access.limits.book import LimitBook
from aibrix_extproc.core.access.limits.estimates import Estimator
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.exchange.asks import Refused, Reserve, Reserved
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.exchange.outputs import Finished, Outcome
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.wire.estimates import InputRatios
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import Caller, Placement
from tests.build import an_endpoint

CHAT = next(row for row in OPERATIONS if row.path == "/v1/chat/completions")
ASK = Reserve(CHAT, "m", Caller("a"), 400, (100, 50))


class Counted:
    """A limiter in memory, with what it told the metrics."""

    def __init__(
        self, limits: dict[str, Any] | None = None, *, soft_limits: dict[str, Any] | None = None, metering: bool = True
    ) -> None:
        self.limited: list[str] = []
        self.warned: list[str] = []
        book = LimitBook([LimitRecord("a", "a", limits=limits or {}, soft_limits=soft_limits or {})])
        self.counters = MemoryCounters(keep_seconds=900, lease_seconds=30)
        self.limiter = Limiter(
            lambda: book, self.counters, Estimator(InputRatios()),
            lambda model: model == "m", issuer="i", metering=metering,
            limited=self.limited.append, warned=self.warned.append,
        )  # fmt: skip

    def ask(self, ask: Reserve = ASK) -> Reserved | Refused:
        answer = self.limiter.reserve(ask)
        assert isinstance(answer, Reserved | Refused)
        return answer

    def reserved(self, ask: Reserve = ASK) -> Reserved:
        answer = self.ask(ask)
        assert isinstance(answer, Reserved), answer
        return answer

    def remaining(self, what: str = "tokens") -> int:
        known = self.limiter.limits_of(Caller("a"))
        assert known is not None
        return int(dict(known(False))[f"x-ratelimit-remaining-{what}"])


def finished(reservation: str, status: int, outcome: Outcome, **changes: Any) -> Finished:
    placement = Placement("random", "m", (an_endpoint(1),))
    fact = Finished(
        request_id="r", operation=CHAT.id, model="m", caller="a", stream=False, status=status, outcome=outcome,
        cause=Cause.HALF_CLOSED, problem=None, assigned_to=None, placement=placement, upstream_address="",
        body_bytes=400, started_at=0.0, placed_at=0.0, response_at=0.0, ended_at=0.0, reservation=reservation,
    )  # fmt: skip
    return replace(fact, **changes)


def test_what_a_charge_reports_replaces_what_was_reserved_once() -> None:
    counted = Counted(limits={"tokens_per_day": 10_000})
    name = counted.reserved().reservation
    assert counted.remaining() == 10_000 - 101 - 50
    counted.limiter.finished(finished(name, 200, Outcome.SERVED))
    for tokens in (30, 3000):
        counted.limiter.charged(
            Charge(
                request_id="r",
                operation=CHAT.id,
                model="m",
                caller="a",
                status=200,
                bytes_in=400,
                usage=Usage(20, tokens - 20, tokens),
                reservation=name,
            )
        )
    assert counted.remaining() == 10_000 - 30


@pytest.mark.parametrize(
    ("status", "outcome", "changes", "left"),
    [
        (503, Outcome.REFUSED, {"placed_at": None, "placement": None, "problem": "no_engine"}, 1000),
        (404, Outcome.REFUSED, {"placed_at": None, "placement": None, "problem": "model_not_found"}, 1000),
        (500, Outcome.ENGINE_ERROR, {}, 1000),
        (0, Outcome.CANCELLED, {"placed_at": None, "placement": None}, 1000),
        (504, Outcome.ENVOY_ERROR, {"problem": "timeout"}, 849),
        (200, Outcome.SERVED, {}, 849),
    ],
    ids=["no engine", "no model", "engine failed", "left early", "time ran out", "served"],
)
def test_what_reached_no_engine_or_failed_there_is_refunded(
    status: int, outcome: Outcome, changes: dict[str, Any], left: int
) -> None:
    counted = Counted(limits={"tokens_per_day": 1000}, metering=False)
    name = counted.reserved().reservation
    counted.limiter.finished(finished(name, status, outcome, **changes))
    assert counted.remaining() == left


def test_leases_end_with_the_exchange_although_the_charge_comes_later() -> None:
    counted = Counted(limits={"concurrent_requests": 1})
    name = counted.reserved().reservation
    assert isinstance(counted.ask(), Refused)
    assert counted.limited == ["concurrent_requests"]
    assert list(counted.limiter.running) == [name]
    counted.limiter.finished(finished(name, 200, Outcome.SERVED))
    assert counted.limiter.running == {}
    assert counted.reserved().reservation


@pytest.mark.parametrize("limit", ["requests_per_minute", "concurrent_requests"])
def test_a_caller_that_may_make_no_request_is_refused_before_its_body_is_read(limit: str) -> None:
    counted = Counted(limits={limit: 1, "tokens_per_day": 1000})
    assert counted.limiter.used_up(ASK.caller, CHAT) is None
    name = counted.reserved().reservation
    assert counted.limiter.used_up(ASK.caller, CHAT) is None, "nobody looks before a refusal"
    by_body = counted.ask()
    by_head = counted.limiter.used_up(ASK.caller, CHAT)
    assert isinstance(by_body, Refused)
    assert by_head is not None
    assert by_head.key == by_body.problem.key
    assert [one for one, _ in by_head.headers] == [one for one, _ in by_body.problem.headers]
    assert counted.limited == [limit] * 2
    counted.limiter.finished(finished(name, 503, Outcome.REFUSED))
    assert counted.limiter.used_up(ASK.caller, CHAT) is None
    assert counted.reserved().reservation


def test_ten_thousand_streams_of_one_caller_cost_no_more_memory_than_its_limit() -> None:
    counted = Counted(limits={"concurrent_requests": 100})
    answers = [counted.ask() for _ in range(10_000)]
    assert sum(isinstance(one, Reserved) for one in answers) == len(counted.limiter.running) == 100
    assert len(counted.counters) == 101, "the counter, and the reservations that were admitted"


def test_a_model_that_nobody_serves_makes_no_counters() -> None:
    counted = Counted(limits={"requests_per_day": 5})
    assert counted.reserved(replace(ASK, model="invented")).reservation == ""
    assert counted.remaining("requests") == 5


def test_a_soft_limit_warns_and_refuses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted(soft_limits={"requests_per_day": 2})
    with caplog.at_level(logging.WARNING):
        answers = [dict(counted.reserved().answer_headers or ()).get("x-aibrix-limit-warning") for _ in range(4)]
    assert answers == [None, None, "requests_per_day", "requests_per_day"]
    assert counted.warned == ["requests_per_day"] * 2
    assert len(caplog.records) == 1


def test_a_caller_without_limits_is_not_asked() -> None:
    assert Counted(limits={"requests_per_day": 1}).limiter.limits_of(Caller("b")) is None
