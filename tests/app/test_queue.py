"""Requests that wait in the gateway: they go when there is a slot, and whatever ends a wait leaves nothing behind."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.queue import Queue, Waits
from aibrix_extproc.app.placing import Placing
from aibrix_extproc.core.exchange.asks import Place, Placed, Refused
from aibrix_extproc.core.exchange.events import Cause
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Outcome
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.fleet.gauge_book import GaugeBook
from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.fleet.reduce import Listed, Observed
from aibrix_extproc.core.openai.contract.operations import Role
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import Caller, RouteQuery
from aibrix_extproc.settings import QueueSettings
from tests.build import MODEL, a_placer, an_endpoint, an_operation

CHAT = an_operation("chat_completion")


class Counted:
    def __init__(self) -> None:
        self.waited: list[str] = []
        self.refused: list[str] = []

    def waited_in_queue(self, kind: str, seconds: float) -> None:
        self.waited.append(kind)

    def shed(self, reason: str) -> None:
        self.refused.append(reason)


class Bench:
    """A queue in front of engines that end requests when the test says so."""

    def __init__(
        self, engines: int = 1, *, health: Health = Health.READY, seconds: float = 60.0, **settings: Any
    ) -> None:
        self.load, self.gauges, self.counted = LoadBook(), GaugeBook(), Counted()
        self.store = FleetStore(["test"])
        endpoints = tuple(an_endpoint(number, health=Health.UNKNOWN) for number in range(1, engines + 1))
        self.store.apply(Listed("test", endpoints))
        for one in endpoints:
            self.seen(one, health)
        self.queue = Queue(
            QueueSettings(**{"enabled": True, "engine_requests": 2} | settings), self.store, self.load, self.gauges,
            Waits(60.0), counts=self.counted, clock=lambda: asyncio.get_running_loop().time(),
        )  # fmt: skip
        placer = a_placer(load=self.load)
        self.placing = Placing(placer, lambda: self.store.snapshot, lambda: 0.0, queue=self.queue)
        self.number = 0
        self.gone: list[Running] = []

    def seen(self, endpoint: Endpoint, health: Health) -> None:
        self.store.apply(Observed(endpoint.identity, health, models=endpoint.models))

    def ask(self, caller: str = "a", *, body_bytes: int = 100, **changes: Any) -> Place:
        self.number += 1
        return Place(
            changes.pop("operation", CHAT), RouteQuery(changes.pop("model", MODEL), body_bytes=body_bytes), None,
            Caller(caller, labels={"class": changes.pop("kind", "default")}), request_id=f"r-{self.number}", **changes,
        )  # fmt: skip

    def take(self, ask: Place, answer: Placed | Refused) -> "Running":
        """What the machine does with an answer: the load counts."""
        if isinstance(answer, Placed):
            identity = answer.placement.first.identity
            self.load.acquire(identity)
            query = RouteQuery(ask.query.model, caller=ask.caller.name)
            self.queue.assigned(Assigned(identity, ask.batch, ask.request_id, query))
        self.gone.append(Running(self, ask, answer))
        return self.gone[-1]

    async def place(self, ask: Place) -> "Running":
        answer = self.placing.place(ask)
        if isinstance(answer, Awaitable):
            answer = await answer
        return self.take(ask, answer)

    def waits(self, ask: Place) -> "asyncio.Task[Running]":
        """A request that has to wait."""
        task = asyncio.ensure_future(self.place(ask))
        return task

    @property
    def waiting(self) -> int:
        return sum(map(len, (queue.line for queue in self.queue._queues.values())))

    @property
    def is_clean(self) -> bool:
        """Nobody waits, nothing is on its way, and no request counts that has ended."""
        return (
            not self.waiting
            and not self.queue._rooms._granted
            and not any(queue.line.size for queue in self.queue._queues.values())
        )


class Running:
    """A request with its answer."""

    def __init__(self, bench: Bench, ask: Place, answer: Placed | Refused) -> None:
        self.bench, self.ask, self.answer = bench, ask, answer

    @property
    def refusal(self) -> tuple[str, dict[str, str]]:
        assert isinstance(self.answer, Refused)
        return self.answer.problem.key, dict(self.answer.problem.headers)

    def end(self) -> None:
        assert isinstance(self.answer, Placed)
        first = self.answer.placement.first.identity
        self.bench.load.release(first)
        fact = Finished(
            request_id=self.ask.request_id, operation=CHAT.id, model=MODEL, caller=self.ask.caller.name, stream=False,
            status=200, outcome=Outcome.SERVED, cause=Cause.HALF_CLOSED, problem=None, assigned_to=first,
            placement=self.answer.placement, upstream_address="", body_bytes=0, started_at=None, placed_at=0.0,
            response_at=None, ended_at=0.0, batch=self.ask.batch,
        )  # fmt: skip
        self.bench.queue.finished(fact)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def filled(bench: Bench, slots: int = 2, caller: str = "first") -> list[Running]:
    return [await bench.place(bench.ask(caller)) for _ in range(slots)]


async def test_request_waits_for_a_slot_and_goes_when_one_is_free() -> None:
    bench = Bench()
    running = await filled(bench)
    waits = bench.waits(bench.ask())
    await turns()
    assert not waits.done()
    assert bench.queue.report() == {MODEL: {"default": 1}}
    running[0].end()
    await turns()
    assert isinstance((await waits).answer, Placed)
    assert bench.load.total() == 2
    assert bench.counted.waited == ["default"]
    assert bench.is_clean


async def test_several_slots_that_come_at_once_are_given_to_as_many_and_no_more() -> None:
    bench = Bench(engines=2)
    running = await filled(bench, 4)
    waits = [bench.waits(bench.ask(f"c-{number}")) for number in range(5)]
    await turns()
    for one in running[:3]:
        one.end()
    await turns()
    assert [one.done() for one in waits] == [True, True, True, False, False]
    assert bench.load.total() == 4
    assert max(bench.load.view.values()) == 2  # the engines that were full got none
    for task in waits:
        task.cancel()
    await turns()
    assert bench.is_clean


async def test_work_is_shared_fairly_between_callers() -> None:
    bench = Bench(engine_requests=1)
    await filled(bench, 1)
    tasks = list[asyncio.Task[Running]]()
    for _ in range(4):
        tasks.append(bench.waits(bench.ask("large", body_bytes=4_000_000)))
        tasks += [bench.waits(bench.ask("small")) for _ in range(3)]
    await turns()
    for _ in range(12):
        bench.gone[-1].end()
        await turns()
    assert Counter(one.ask.caller.name for one in bench.gone[1:]) == {"small": 11, "large": 1}
    for task in tasks:
        task.cancel()
    await turns()
    assert bench.is_clean


async def test_client_that_leaves_while_it_waits_or_just_after_its_turn_has_come_takes_no_slot() -> None:
    bench = Bench()
    running = await filled(bench)
    leaves, stays = bench.waits(bench.ask("leaves")), bench.waits(bench.ask("stays"))
    await turns()
    leaves.cancel()
    await turns()
    assert bench.waiting == 1
    again = bench.waits(bench.ask("again"))
    await turns()
    running[0].end()  # the turn is that of `stays`, which leaves before it hears of it
    stays.cancel()
    await turns()
    bench.queue._look()
    await turns()
    assert again.done()
    assert bench.load.total() == 2
    assert bench.is_clean


async def test_wait_that_is_never_awaited_leaves_nothing() -> None:
    bench = Bench()
    await filled(bench)
    answer = bench.placing.place(bench.ask())
    answer.close()  # type: ignore[union-attr]
    assert bench.is_clean


async def test_request_that_waits_too_long_is_a_503_with_a_retry_after() -> None:
    bench = Bench(max_wait_seconds=0.31)
    await filled(bench)
    key, headers = (await bench.place(bench.ask())).refusal
    assert key == "engine_overloaded"
    assert 1 <= int(headers["retry-after"]) <= 60
    assert bench.counted.refused == ["deadline"]
    assert bench.is_clean


async def test_client_that_is_less_patient_is_refused_before_it_leaves() -> None:
    bench = Bench()
    await filled(bench)
    assert (await bench.place(bench.ask(patience="0.01"))).refusal[0] == "engine_overloaded"
    assert bench.is_clean


@pytest.mark.parametrize("bounds", [{"max_waiting": 1}, {"max_waiting_bytes": 150}])
async def test_queue_is_bounded_and_batches_make_room(bounds: dict[str, Any]) -> None:
    bench = Bench(**bounds)
    await filled(bench)
    batch = bench.waits(bench.ask(batch=True))
    await turns()
    other = bench.waits(bench.ask())
    await turns()
    assert batch.result().refusal[0] == "engine_overloaded"
    assert (await bench.place(bench.ask(batch=True))).refusal[0] == "engine_overloaded"
    assert (await bench.place(bench.ask())).refusal[0] == "engine_overloaded"
    assert bench.counted.refused == ["displaced", "full", "full"]
    other.cancel()
    await turns()
    assert bench.is_clean


async def test_end_of_the_process_refuses_all_that_wait() -> None:
    bench = Bench()
    await filled(bench)
    waits = [bench.waits(bench.ask()) for _ in range(3)]
    await turns()
    bench.queue.end_after(0.0)
    assert [(await one).refusal[0] for one in waits] == ["engine_overloaded"] * 3
    assert bench.counted.refused == ["shutdown"] * 3
    assert bench.is_clean


async def test_nobody_is_held_back_for_an_engine_of_unknown_size_until_requests_wait_in_it() -> None:
    bench = Bench(engine_requests=None)
    for _ in range(50):
        await bench.place(bench.ask())
    now = asyncio.get_running_loop().time()
    bench.gauges.take("engine-1", EngineGauges(at=now, own=50, running=8.0, waiting=42.0))
    waits = bench.waits(bench.ask())
    await turns()
    assert not waits.done()
    waits.cancel()
    await turns()
    assert bench.is_clean


async def test_requests_for_a_model_that_has_no_engine_yet_wait_until_it_has_one() -> None:
    bench = Bench(health=Health.NOT_READY, enabled=False, hold_models=(MODEL, "from-zero"))
    waits, other = bench.waits(bench.ask()), bench.waits(bench.ask(model="from-zero"))
    await turns()
    assert bench.waiting == 2
    assert bench.queue.report() == {MODEL: {"default": 1}, "from-zero": {"default": 1}}
    bench.seen(an_endpoint(1), Health.READY)
    await turns()
    assert isinstance((await waits).answer, Placed)
    assert not other.done()
    bench.store.apply(Listed("test", (an_endpoint(1), an_endpoint(2, models=("from-zero",), health=Health.UNKNOWN))))
    bench.seen(an_endpoint(2, models=("from-zero",)), Health.READY)
    await turns()
    assert isinstance((await other).answer, Placed)
    assert bench.is_clean


async def test_request_for_a_model_that_does_not_come_gets_the_refusal_of_placement() -> None:
    bench = Bench(health=Health.NOT_READY, hold_models=(MODEL,), max_wait_seconds=0.31)
    assert (await bench.place(bench.ask())).refusal[0] == "model_not_ready"
    assert (await bench.place(bench.ask(model="unknown"))).refusal[0] == "model_not_found"
    assert bench.is_clean


async def test_caller_that_may_not_use_a_held_model_does_not_learn_of_it() -> None:
    bench = Bench(enabled=False, hold_models=("secret",))
    ask = Place(CHAT, RouteQuery("secret"), None, Caller("me", models=("chat-*",), role=Role.USER))
    answer = bench.placing.place(ask)
    assert isinstance(answer, Refused)
    assert answer.problem.key == "model_not_found"


async def test_charges_correct_what_was_estimated() -> None:
    bench = Bench(engine_requests=1)
    await filled(bench, 1)
    tasks = [bench.waits(bench.ask("a")), bench.waits(bench.ask("a"))]
    await turns()
    line = bench.queue._queues[MODEL].line
    before = line._flows["a"].virtual
    charge = Charge(
        request_id="r-2",
        operation=CHAT.id,
        model=MODEL,
        caller="a",
        status=200,
        bytes_in=100,
        usage=Usage(8000, 2000, 0),
    )
    bench.queue.work.charged(charge)
    assert line._flows["a"].virtual > before + 1.0
    for task in tasks:
        task.cancel()
    await turns()
    assert bench.is_clean


async def test_metrics_have_a_series_for_each_model_and_class() -> None:
    bench = Bench()
    await filled(bench)
    waits = bench.waits(bench.ask(kind="interactive"))
    await turns()
    series: dict[str, Callable[[], Any]] = {}

    class Meters:
        def gauges(self, name: str, values: Callable[[], Any]) -> None:
            series[name] = values

    bench.queue.register(Meters())  # type: ignore[arg-type]
    assert dict(series["aibrix_extproc_queue_length"]())[MODEL, "interactive"] == 1
    waits.cancel()
    await turns()
