"""One step at a time: what follows from each event, for the cases that random histories hardly meet."""

import pytest
from msgspec.structs import replace

from aibrix_extproc.core.operations.draining import Drain, GatewayReport, drain_of
from aibrix_extproc.core.operations.planning import Seen, in_turn, plan, short_models, status_of
from aibrix_extproc.core.operations.recipes import recipe_of
from aibrix_extproc.core.operations.records import Answer, Ask, Order, Phase, Run, RunSpec, RunStatus, Step, Target
from aibrix_extproc.core.operations.runs import (
    SETTLE_LONGEST_SECONDS,
    SETTLE_SECONDS,
    Act,
    Answered,
    Begun,
    Checked,
    Cordoned,
    Drained,
    Dropped,
    Event,
    Resumed,
    Uncordoned,
    act_of,
    after,
    current_call,
)

NAP = (Ask("sleep"), Ask("wake_up"))
WEIGHTS = (Ask("rolling_weight_update", {"weight_version": "v2", "updates": [{}]}),)
OK = Answered(Answer(200, "{}"))
DRAINED = Drained(Drain(2, 0, 0))
BUSY = Drained(Drain(2, 0, 3))


def a_spec(*asks: Ask, **values: object) -> RunSpec:
    return replace(RunSpec(asks, Target("m")), **values)


def a_step(**values: object) -> Step:
    return replace(Step("e1", "10.0.0.1:8000", "pod-1", ("m",)), **values)


def follow(spec: RunSpec, *events: tuple[float, Event]) -> Step:
    step = a_step()
    for at, event in events:
        step, _ = after(spec, step, event, at)
    return step


def test_a_disturbing_step_is_cordoned_and_drained_before_its_call_and_ends_with_its_cordon() -> None:
    spec, step, acts = a_spec(*NAP), a_step(), list[Act | None]()
    events: list[Event] = [Begun(), Cordoned(5), BUSY, DRAINED, OK, Checked(True), OK, Checked(True)]
    for event in events:
        step, _ = after(spec, step, event, 10.0)
        acts.append(act_of(spec, step, 10.0, takes_requests=True))
    assert acts == [Act.CORDON, Act.DRAIN, Act.DRAIN, Act.CALL, Act.CHECK, Act.CALL, Act.CHECK, None]
    assert act_of(spec, step, 10.0 + SETTLE_SECONDS, takes_requests=True) is Act.UNCORDON
    step, _ = after(spec, step, Uncordoned(), 14.0)
    assert (step.phase, step.cordon_version, step.ended_at) == (Phase.DONE, 0, 14.0)


def test_an_engine_that_is_left_asleep_keeps_its_cordon_until_our_polls_know() -> None:
    spec = a_spec(Ask("sleep"))
    step = follow(spec, *((0.0, event) for event in (Begun(), Cordoned(5), DRAINED, OK, Checked(True))))
    assert act_of(spec, step, SETTLE_SECONDS, takes_requests=True) is None
    assert act_of(spec, step, SETTLE_SECONDS, takes_requests=False) is Act.UNCORDON
    assert act_of(spec, step, SETTLE_SECONDS + SETTLE_LONGEST_SECONDS, takes_requests=True) is Act.UNCORDON


def test_the_call_is_made_when_the_drain_time_is_over() -> None:
    spec = a_spec(*NAP, drain_seconds=30.0)
    begun = (0.0, Begun()), (0.0, Cordoned(5))
    assert follow(spec, *begun, (29.0, BUSY)).phase is Phase.DRAINING
    assert follow(spec, *begun, (30.0, BUSY)).phase is Phase.RUNNING


def test_a_failed_call_is_undone() -> None:
    begun = [(0.0, event) for event in (Begun(), Cordoned(5), DRAINED)]
    spec = a_spec(*NAP)
    hung = follow(spec, *begun, (1.0, Answered(Answer(failure="no answer in 300 s"))))
    assert hung.undoing
    assert current_call(spec, hung).operation == "wake_up"
    back = follow(spec, *begun, (1.0, Answered(Answer(failure="hung"))), (2.0, OK), (2.0, Checked(True)))
    assert back.ends_as is Phase.ROLLED_BACK
    lost = follow(spec, *begun, (1.0, Answered(Answer(failure="hung"))), (2.0, Answered(Answer(failure="hung too"))))
    assert lost.ends_as is Phase.FAILED
    assert "hung too" in lost.detail


def test_a_refused_call_changed_nothing_and_is_not_undone() -> None:
    events: list[Event] = [Begun(), Cordoned(5), DRAINED, Answered(Answer(404, "no"))]
    step = follow(a_spec(*NAP), *((0.0, event) for event in events))
    assert step.ends_as is Phase.FAILED
    assert not step.undoing


def test_an_engine_whose_weights_may_be_incomplete_is_left_paused() -> None:
    spec = a_spec(*WEIGHTS)
    paused = [(0.0, event) for event in (Begun(), Cordoned(5), DRAINED, OK, Checked(True))]
    broken = follow(spec, *paused, (1.0, OK), (1.0, Checked(True)), (2.0, Answered(Answer(500, "boom"))))
    assert broken.ends_as is Phase.FAILED
    assert "left paused" in broken.detail
    refused = follow(spec, *paused, (1.0, Answered(Answer(404, "no such route"))))
    assert current_call(spec, refused).operation == "resume"  # nothing was changed: it goes on with its old weights


def test_an_answer_that_says_no_success_is_asked_again_until_the_time_is_over() -> None:
    spec = a_spec(Ask("reset_prefix_cache"))
    step = follow(spec, (0.0, Begun()), (0.0, OK))
    for second in range(1, 200):
        step, _ = after(spec, step, Checked(False, "success: false"), float(second))
        step, _ = after(spec, step, OK, float(second))
        if step.ended:
            break
    assert step.phase is Phase.FAILED
    assert step.ended_at is not None
    assert step.ended_at <= 61.0


def test_a_step_whose_process_died_in_a_call_asks_the_engine_before_it_calls_again() -> None:
    spec = a_spec(*NAP)
    running = follow(spec, *((0.0, event) for event in (Begun(), Cordoned(5), DRAINED)))
    asked, _ = after(spec, running, Resumed("b"), 9.0)
    assert act_of(spec, asked, 9.0, takes_requests=False) is Act.CHECK
    made, _ = after(spec, asked, Checked(True), 9.0)
    assert current_call(spec, made).operation == "wake_up"
    unmade, _ = after(spec, asked, Checked(False), 9.0)
    assert (unmade.phase, current_call(spec, unmade).operation) == (Phase.RUNNING, "sleep")


def test_an_interrupted_weight_transfer_begins_again_at_its_start() -> None:
    spec = a_spec(*WEIGHTS)
    events: list[Event] = [Begun(), Cordoned(5), DRAINED, OK, Checked(True), OK, Checked(True)]
    steps = (*events, Resumed("b"), Checked(False))
    step = follow(spec, *((0.0, event) for event in steps))
    assert (step.phase, current_call(spec, step).operation) == (Phase.RUNNING, "start_weight_update")


@pytest.mark.parametrize(
    ("event", "phase"),
    [(Dropped("cancelled"), Phase.PENDING), (OK, Phase.DRAINING), (Checked(True), Phase.DRAINING)],
    ids=["a pending step is dropped at once", "an answer without a call", "a check without a call"],
)
def test_events_out_of_place(event: Event, phase: Phase) -> None:
    spec, step = a_spec(*NAP), a_step(phase=phase)
    found, _ = after(spec, step, event, 1.0)
    assert found.phase is (Phase.CANCELLED if phase is Phase.PENDING else phase)


def test_a_drained_endpoint_has_no_exchange_at_any_live_gateway_that_knows_of_its_cordon() -> None:
    idle, busy = {"e2": 4}, {"e1": 2}
    table = [
        ([], False),  # nobody can tell
        ([GatewayReport("a", 5, idle, 0.1)], True),
        ([GatewayReport("a", 5, busy, 0.1)], False),
        ([GatewayReport("a", 5, idle, 0.1), GatewayReport("b", 4, {}, 0.1)], False),  # b may still begin some
        ([GatewayReport("a", 5, idle, 0.1), GatewayReport("b", 4, busy, 99.0)], True),  # b is dead
    ]
    assert [drain_of(reports, "e1", 5, 15.0).complete for reports, _ in table] == [complete for _, complete in table]


def a_run(*steps: Step, asks: tuple[Ask, ...] = NAP, **values: object) -> Run:
    return Run("r", a_spec(*asks, **values), steps, started_at=0.0)


def seen(*names: str, away: tuple[str, ...] = (), model: str = "m") -> dict[str, Seen]:
    return {name: Seen(name, frozenset({model}), name not in away) for name in names}


def test_rolling_order_waits_until_the_last_endpoint_takes_requests_again() -> None:
    done = a_step(phase=Phase.DONE, was_available=True)
    run = a_run(done, a_step(identity="e2"))
    assert plan(run, seen("e1", "e2", "e3", away=("e1",)), 1.0) == []
    assert [number for number, _ in plan(run, seen("e1", "e2", "e3"), 1.0)] == [1]


def test_the_first_failure_ends_a_rolling_run() -> None:
    run = a_run(a_step(phase=Phase.FAILED), a_step(identity="e2"))
    assert plan(run, seen("e1", "e2"), 1.0) == [(1, Dropped("pod-1 failed before it"))]
    assert plan(replace(run, spec=replace(run.spec, order=Order.ALL)), seen("e1", "e2", "e3"), 1.0) == [
        (1, Begun(True))
    ]


def test_the_end_of_its_time_and_a_cancel_drop_what_has_not_called_its_engine() -> None:
    steps = a_step(phase=Phase.RUNNING), a_step(phase=Phase.DRAINING), a_step()
    assert [number for number, _ in plan(a_run(*steps, timeout_seconds=5.0), {}, 6.0)] == [1, 2]
    assert [number for number, _ in plan(replace(a_run(*steps), cancel_asked=True), {}, 1.0)] == [1, 2]


@pytest.mark.parametrize(
    ("asks", "fleet", "short"),
    [
        (NAP, seen("e1", "e2"), set()),
        (NAP, seen("e1"), {"m"}),
        (NAP, seen("e1", "e2", away=("e2",)), {"m"}),
        (NAP, seen("e1", away=("e1",)), set()),
        ((Ask("sleep"),), seen("e1", "e2"), {"m"}),
        ((Ask("sleep"),), seen("e1", "e2", "e3"), set()),
        ((Ask("wake_up"),), seen("e1"), set()),
    ],
    ids=[
        "one at a time", "the last engine", "the last ready engine", "none is ready anyway", "all stay asleep",
        "one stays", "nothing is disturbed",
    ],
)  # fmt: skip
def test_models_that_a_run_would_leave_without_an_engine(
    asks: tuple[Ask, ...], fleet: dict[str, Seen], short: set[str]
) -> None:
    assert short_models(a_spec(*asks), ["e1", "e2"], fleet) == short


def test_runs_that_share_an_endpoint_or_a_model_wait_for_the_earlier_one() -> None:
    one, other = a_run(a_step()), a_run(a_step(identity="e9", models=("n",)))
    same_model = a_run(a_step(identity="e5"))
    assert in_turn([one, same_model, other]) == [one, other]
    assert in_turn([replace(one, status=RunStatus.FAILED), same_model]) == [same_model]


def test_a_run_waits_for_a_queued_one_too() -> None:
    wide = a_run(a_step(), a_step(identity="e9", models=("n",)))
    assert in_turn([a_run(a_step()), wide, a_run(a_step(identity="e8", models=("n",)))])[1:] == []


@pytest.mark.parametrize(
    ("phases", "cancelled", "now", "status"),
    [
        ([Phase.DONE, Phase.RUNNING], False, 1.0, RunStatus.RUNNING),
        ([Phase.DONE, Phase.RUNNING], True, 1.0, RunStatus.CANCELLING),
        ([Phase.DONE, Phase.DONE], True, 1.0, RunStatus.SUCCEEDED),
        ([Phase.DONE, Phase.CANCELLED], True, 1.0, RunStatus.CANCELLED),
        ([Phase.DONE, Phase.CANCELLED], False, 9999.0, RunStatus.FAILED),
        ([Phase.ROLLED_BACK, Phase.CANCELLED], False, 1.0, RunStatus.FAILED),
    ],
    ids=["running", "cancelling", "cancelled too late", "cancelled", "out of time", "failed"],
)
def test_status(phases: list[Phase], cancelled: bool, now: float, status: RunStatus) -> None:
    run = replace(a_run(*(a_step(phase=phase) for phase in phases)), cancel_asked=cancelled)
    assert status_of(run, now) is status


def test_a_weight_update_without_a_transfer_only_names_the_version() -> None:
    recipe = recipe_of([("rolling_weight_update", {"weight_version": "v3"})])
    assert [call.operation for call in recipe.calls] == [
        "pause", "update_weight_version", "reset_prefix_cache", "resume",
    ]  # fmt: skip
    assert recipe.leaves_available
