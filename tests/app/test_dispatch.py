"""Which handler answers which ask, what becomes of a wait, and who observes what."""

import asyncio
import gc
import logging
import warnings
from typing import Any, get_args

import pytest

from aibrix_extproc.adapters.bodyreader.reader import BodyReader
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.authenticator import Authenticator
from aibrix_extproc.app.body_reading import BodyReading
from aibrix_extproc.app.directory import Directory
from aibrix_extproc.app.dispatch import OVERDUE, Dispatcher, Handler, handlers
from aibrix_extproc.app.engine_load import LoadCount
from aibrix_extproc.app.exchange_policy import longest_wait_seconds
from aibrix_extproc.app.observers import observers
from aibrix_extproc.app.parts.bodies import LargeBodies
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.core.access.keys import OPEN_RING
from aibrix_extproc.core.exchange.asks import ANSWERS, Admitted, Answer, Ask, Authenticate, Pending, Place, Refused
from aibrix_extproc.core.exchange.outputs import FACTS, Assigned, Fact, Forwarded, Moved
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.openai.contract.errors import ERRORS, Problem
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.settings import ServerSettings
from tests.build import CALLER, a_placed, a_placer, a_snapshot

ASK = Authenticate(None, None, None)
LONG = 1e6


def a_dispatcher(handler: Handler, *observers: Any, longest: float = 4.0, bugs: list[str] | None = None) -> Dispatcher:
    counted = [] if bugs is None else bugs
    return Dispatcher(
        {Authenticate: handler}, observers, longest_wait_seconds=longest, timed=lambda _, __: None,
        bug=lambda: counted.append("bug"),
    )  # fmt: skip


def shipped() -> dict[type[Ask], Handler]:
    return dict(
        handlers(
            Authenticator(lambda: OPEN_RING, lambda: 0.0),
            Directory(a_snapshot),
            Placing(a_placer(), a_snapshot, lambda: 0.0),
            BodyReading(BodyReader()),
        )
    )


def test_every_ask_has_a_handler_whose_deadline_has_a_row_that_says_to_come_again() -> None:
    assert set(shipped()) == set(get_args(Ask))
    for handler in shipped().values():
        row = ERRORS[handler.overdue]
        assert (row.status, row.code, bool(row.retry_after_seconds)) == (503, handler.overdue, True)


def test_tables_of_types_have_every_answer_and_fact() -> None:
    assert set(get_args(Answer)) == ANSWERS
    assert set(get_args(Fact)) == FACTS


def test_answer_that_is_at_hand_is_given_as_it_is() -> None:
    answer = Admitted(CALLER)
    assert a_dispatcher(Handler(lambda _: answer)).answer(ASK) is answer


async def test_answer_that_is_waited_for_comes() -> None:
    async def admit(_: Authenticate) -> Admitted:
        await asyncio.sleep(0)
        return Admitted(CALLER)

    waiting = a_dispatcher(Handler(admit)).answer(ASK)
    assert isinstance(waiting, Pending)
    assert await waiting.wait() == Admitted(CALLER)


async def test_handler_that_never_answers_is_cancelled_at_the_deadline_and_becomes_its_refusal() -> None:
    ended: list[str] = []

    async def never(_: Authenticate) -> Admitted:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("released")
        raise AssertionError

    for handler, problem in (
        (Handler(never, deadline_seconds=0.001), OVERDUE),
        (Handler(never, deadline_seconds=0.001, overdue="gateway_busy"), "gateway_busy"),
    ):
        waiting = a_dispatcher(handler).answer(ASK)
        assert isinstance(waiting, Pending)
        assert await waiting.wait() == Refused(Problem(problem))
    assert ended == ["released"] * 2


async def test_time_out_of_the_handler_itself_is_no_refusal_but_a_failure() -> None:
    async def broken(_: Authenticate) -> Admitted:
        raise TimeoutError("of something else")

    waiting = a_dispatcher(Handler(broken)).answer(ASK)
    assert isinstance(waiting, Pending)
    with pytest.raises(TimeoutError, match="of something else"):
        await waiting.wait()


@pytest.mark.parametrize(("wanted", "longest", "seconds"), [(1.0, 4.0, 1.0), (60.0, 4.0, 4.0), (60.0, 48.0, 48.0)])
def test_no_wait_is_longer_than_envoy_allows(wanted: float, longest: float, seconds: float) -> None:
    async def admit(_: Authenticate) -> Admitted:
        return Admitted(CALLER)

    waiting = a_dispatcher(Handler(admit, deadline_seconds=wanted), longest=longest).answer(ASK)
    assert isinstance(waiting, Pending)
    waiting.drop()
    assert waiting.seconds == seconds


@pytest.mark.parametrize(
    ("timeout", "most", "seconds"), [(5.0, 0.0, 4.0), (5.0, 60.0, 48.0), (0.5, 0.0, 0.4), (10.0, 5.0, 8.0)]
)
def test_longest_wait_follows_from_what_envoy_is_told(timeout: float, most: float, seconds: float) -> None:
    server = ServerSettings(message_timeout_seconds=timeout, max_message_timeout_seconds=most)
    assert longest_wait_seconds(server) == pytest.approx(seconds)


def test_wait_that_nobody_waits_for_is_dropped_without_a_trace() -> None:
    async def admit(_: Authenticate) -> Admitted:
        return Admitted(CALLER)

    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        waiting = a_dispatcher(Handler(admit)).answer(ASK)
        assert isinstance(waiting, Pending)
        waiting.drop()
        del waiting
        gc.collect()
    assert not caught


def test_observers_hear_of_a_fact_in_their_order_and_one_that_fails_keeps_it_from_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[str] = []
    bugs: list[str] = []

    def broken(fact: Assigned) -> None:
        heard.append(f"broken {fact.identity}")
        raise RuntimeError("a bug")

    dispatcher = a_dispatcher(
        Handler(lambda _: a_placed()),
        (Assigned, lambda fact: heard.append(f"first {fact.identity}")),
        (Assigned, broken),
        (Moved, lambda _: heard.append("moved")),
        (Assigned, lambda fact: heard.append(f"last {fact.identity}")),
        bugs=bugs,
    )
    dispatcher.observe(Assigned("e1"))
    assert heard == ["first e1", "broken e1", "last e1"]
    assert bugs == ["bug"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_load_is_the_first_to_hear_of_every_fact_that_concerns_it() -> None:
    load, polled = LoadBook(), list[str]()
    owners = ResponseOwners([b"s" * 32])
    rows = observers(LoadCount(load, LoadBook()), owners, polled.append, Metrics(), log_every=False)
    assert {kind for kind, _ in rows} == FACTS - {Forwarded} | {Charge}  # only predictions take that one
    dispatcher = a_dispatcher(Handler(lambda _: a_placed()), *rows)
    dispatcher.observe(Assigned("a"))
    dispatcher.observe(Moved("a", "b"))
    assert (load.in_flight("a"), load.in_flight("b"), polled) == (0, 1, ["a"])


def test_charges_and_records_go_to_the_observers_of_their_types() -> None:
    charges, bugs = list[Charge](), list[str]()

    def broken(_: Charge) -> None:
        raise RuntimeError("a bug")

    rows = ((Charge, broken), (Charge, charges.append))
    dispatcher = a_dispatcher(Handler(lambda _: a_placed()), *rows, bugs=bugs)
    charge = Charge(request_id="r", operation="chat_completion", model="m", caller="me", status=200)
    dispatcher.observe(charge)
    assert (charges, bugs) == ([charge], ["bug"])
    assert (dispatcher.observes(Charge), dispatcher.observes(ExchangeRecord)) == (True, False)


@pytest.mark.parametrize("log_every", [False, True])
def test_records_are_observed_only_where_every_exchange_is_logged(log_every: bool) -> None:
    rows = observers(
        LoadCount(LoadBook(), LoadBook()), ResponseOwners([b"s" * 32]), lambda _: None, Metrics(), log_every=log_every
    )
    assert (ExchangeRecord in dict(rows)) is log_every


def test_ask_without_a_row_is_a_bug() -> None:
    with pytest.raises(KeyError):
        a_dispatcher(Handler(lambda _: a_placed())).answer(Place(None, None, None, CALLER))  # type: ignore[arg-type]


@pytest.mark.parametrize(("envoy_waits", "deadline"), [(4.0, 4.0), (48.0, 20.0)])
def test_a_large_body_may_wait_as_long_as_envoy_does_within_reason(envoy_waits: float, deadline: float) -> None:
    reading = BodyReading(LargeBodies((), envoy_waits).reader)
    assert reading.large_seconds == deadline
