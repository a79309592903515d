"""Random histories of a run: engines that fail, hang and die, owners that die, cancels at any moment."""

import random
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from aibrix_extproc.core.operations.draining import Drain
from aibrix_extproc.core.operations.planning import Seen, available, plan, status_of
from aibrix_extproc.core.operations.recipes import Check
from aibrix_extproc.core.operations.records import (
    ENDED,
    RUN_ENDED,
    Answer,
    Ask,
    Order,
    Phase,
    Run,
    RunSpec,
    Step,
    Target,
)
from aibrix_extproc.core.operations.runs import (
    Act,
    Answered,
    Begun,
    Checked,
    Cordoned,
    Drained,
    Event,
    Resumed,
    Uncordoned,
    act_of,
    after,
    current_call,
)

ASKS = {
    "nap": (Ask("sleep"), Ask("wake_up")),
    "sleep": (Ask("sleep"),),
    "wake": (Ask("wake_up"),),
    "caches": (Ask("reset_prefix_cache"),),
    "weights": (Ask("rolling_weight_update", {"weight_version": "v2", "updates": [{"names": ["a"]}]}),),
}
OK = Answer(200, "{}")
MODEL = "m"


@dataclass
class World:
    """Engines and cordons as they are, and a run over them whose state is what the ledger has."""

    run: Run
    dice: random.Random
    asleep: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    cordoned: set[str] = field(default_factory=set)
    now: float = 1000.0
    calm: bool = False  # nothing fails any more

    def view(self) -> dict[str, Seen]:
        away = self.asleep | self.dead | self.cordoned
        return {
            step.identity: Seen(step.identity, frozenset({MODEL}), step.identity not in away) for step in self.run.steps
        }

    def chance(self, one_in: int) -> bool:
        return not self.calm and self.dice.randrange(one_in) == 0

    def take(self, number: int, event: Event) -> None:
        step, _ = after(self.run.spec, self.run.steps[number], event, self.now)
        steps = list(self.run.steps)
        steps[number] = step
        self.run = replace(self.run, steps=tuple(steps))

    def do(self, number: int, act: Act) -> Event | None:
        """What an act does to the world, and its result; None: nothing yet."""
        step = self.run.steps[number]
        match act:
            case Act.CORDON:
                self.cordoned.add(step.identity)
                return Cordoned(7)
            case Act.UNCORDON:
                self.cordoned.discard(step.identity)
                return Uncordoned()
            case Act.DRAIN:
                left = self.dice.randint(0, 2) if not self.calm else 0
                return Drained(Drain(2, 0, left))
            case Act.CALL:
                return self.call(step)
            case Act.CHECK:
                return self.check(step)

    def call(self, step: Step) -> Event:
        operation = current_call(self.run.spec, step).operation
        if step.identity in self.dead:
            return Answered(Answer(failure="connection refused"))
        if self.chance(8):
            return Answered(Answer(status=self.dice.choice((400, 404, 500))))
        if operation in ("sleep", "pause"):
            self.asleep.add(step.identity)
        elif operation in ("wake_up", "resume"):
            self.asleep.discard(step.identity)
        if self.chance(8):
            return Answered(Answer(failure="it hangs"))  # though it has done it
        return Answered(OK)

    def check(self, step: Step) -> Event:
        if step.identity in self.dead:
            return Checked(False, "connection refused")
        match current_call(self.run.spec, step).check:
            case Check.ASLEEP | Check.PAUSED:
                return Checked(step.identity in self.asleep)
            case Check.AWAKE | Check.RESUMED:
                return Checked(step.identity not in self.asleep)
            case _:
                return Checked(not step.unsure and not self.chance(6))

    def tick(self) -> None:
        for number, event in plan(self.run, self.view(), self.now):
            if isinstance(event, Begun):
                self.check_room(number)
            self.take(number, event)
        for number, step in enumerate(self.run.steps):
            ready = self.view()[step.identity].available
            act = act_of(self.run.spec, step, self.now, takes_requests=ready)
            if act is None:
                continue
            result = self.do(number, act) if not self.chance(10) else None  # or its process dies before the act
            if result is not None and not self.chance(10):  # or between the act and its record
                self.take(number, result)
            else:
                self.take_over()
        self.disturb()
        self.now += self.dice.choice((0.1, 1.0, 20.0)) if not self.calm else 5.0
        if all(step.ended for step in self.run.steps):
            self.run = replace(self.run, status=status_of(self.run, self.now))

    def take_over(self) -> None:
        for number in range(len(self.run.steps)):
            self.take(number, Resumed("another", lapsed=self.chance(3)))

    def disturb(self) -> None:
        identities = [step.identity for step in self.run.steps]
        if self.chance(12):
            self.dead.symmetric_difference_update({self.dice.choice(identities)})
        if self.chance(40):
            self.run = replace(self.run, cancel_asked=True)

    def check_room(self, number: int) -> None:
        """No endpoint is begun that its model cannot do without."""
        spec, step = self.run.spec, self.run.steps[number]
        if not spec.recipe.disturbs:
            return
        busy = {one.identity for one in self.run.steps if one.phase not in ENDED | {Phase.PENDING}}
        if self.view()[step.identity].available:
            assert available(self.view(), MODEL, busy | {step.identity}) >= spec.keep_available
        if spec.order is Order.ROLLING:
            assert len(busy) < spec.max_unavailable


def a_world(dice: random.Random, asks: str, order: Order, keep: int, most: int, count: int) -> World:
    spec = RunSpec(
        ASKS[asks], Target(MODEL), order, most, keep, drain_seconds=30.0, call_seconds=60.0, timeout_seconds=600.0
    )
    steps = tuple(Step(f"e{number}", f"10.0.0.{number}:8000", f"e{number}", (MODEL,)) for number in range(count))
    return World(Run("run", spec, steps, started_at=1000.0), dice)


SPECS = st.tuples(
    st.sampled_from(sorted(ASKS)), st.sampled_from(list(Order)), st.integers(0, 3), st.integers(1, 3),
    st.integers(1, 5),
)  # fmt: skip


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), given_spec=SPECS, noise=st.integers(0, 60))
def test_every_run_ends_and_leaves_no_cordon(
    seed: int, given_spec: tuple[str, Order, int, int, int], noise: int
) -> None:
    world = a_world(random.Random(seed), *given_spec)
    for turn in range(600):
        world.calm = turn >= noise
        world.tick()
        if world.run.status in RUN_ENDED:
            break
    assert world.run.status in RUN_ENDED
    assert world.cordoned == set()


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32), order=st.sampled_from(list(Order)), keep=st.integers(0, 3), most=st.integers(1, 3))
def test_keep_available_holds_at_every_moment(seed: int, order: Order, keep: int, most: int) -> None:
    """Where no engine dies by itself, whatever the calls answer, and whoever dies meanwhile."""
    world = a_world(random.Random(seed), "nap", order, keep, most, 4)
    world.disturb = lambda: None  # type: ignore[method-assign]
    for turn in range(400):
        world.calm = turn >= 40
        world.tick()
        assert available(world.view(), MODEL) >= keep
        if world.run.status in RUN_ENDED:
            return
    raise AssertionError("the run does not end")


def test_a_calm_run_does_each_call_once_at_each_endpoint() -> None:
    world = a_world(random.Random(1), "weights", Order.ROLLING, 1, 1, 3)
    world.calm = True
    calls: list[tuple[str, str]] = []
    plain = world.call

    def counted(step: Step) -> Event:
        calls.append((step.identity, current_call(world.run.spec, step).operation))
        return plain(step)

    world.call = counted  # type: ignore[method-assign]
    for _ in range(200):
        world.tick()
    one = ["pause", "start_weight_update", "update_weights", "finish_weight_update", "reset_prefix_cache", "resume"]
    assert calls == [(f"e{number}", name) for number in range(3) for name in one]
    assert {step.phase for step in world.run.steps} == {Phase.DONE}
