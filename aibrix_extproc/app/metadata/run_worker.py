"""Works on one run until it has ended: plans, acts, and stores every result before the next act."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from aibrix_extproc.app.metadata.run_acts import RunActs
from aibrix_extproc.core.operations.planning import plan, status_of
from aibrix_extproc.core.operations.records import ACTIVE, RUN_ENDED, Note, Phase, Run, RunStatus, Step
from aibrix_extproc.core.operations.runs import Event, Resumed, act_of, after

TICK_SECONDS: Final = 0.25

Save = Callable[[Run, Sequence[int], Sequence[Note]], Awaitable[None]]


class RunWorker:
    """The work on one run. `save` stores the run and the steps of these numbers, and raises LeaseLostError."""

    def __init__(
        self, run: Run, acts: RunActs, save: Save, clock: Callable[[], float], owner: str, cordon_seconds: float
    ) -> None:
        """`clock`: the database's, in seconds since the epoch. A cordon that is not prolonged ends after its life."""
        self.run = run
        self._acts = acts
        self._save = save
        self._clock = clock
        self._owner = owner
        self._renew_seconds = cordon_seconds / 4
        self._renew_at = 0.0
        self._doing: dict[int, asyncio.Task[Event | None]] = {}

    async def work(self, is_cancelled: Callable[[], bool], *, resumed: bool) -> None:
        """Work until the run has ended. `is_cancelled`: whether somebody asked for its end."""
        async with asyncio.TaskGroup() as tasks:
            await (self._resume() if resumed else self._start())
            while self.run.status not in RUN_ENDED:
                self.run = replace(self.run, cancel_asked=self.run.cancel_asked or is_cancelled())
                await self._renew_cordons()
                await self._plan()
                self._begin_acts(tasks)
                await self._wait()
                await self._take_results()
                await self._finish()

    async def _start(self) -> None:
        now = self._clock()
        self.run = replace(self.run, status=RunStatus.RUNNING, started_at=now)
        await self._save(self.run, [], [Note(now, "", f"started by {self._owner}")])

    async def _resume(self) -> None:
        events: dict[int, Event] = {}
        for number, step in enumerate(self.run.steps):
            if step.phase in ACTIVE:
                lapsed = step.cordon_version > 0 and not await self._acts.has_cordon(self.run.id, step)
                events[number] = Resumed(self._owner, lapsed)
        await self._take(events, [f"taken over by {self._owner}"])

    async def _plan(self) -> None:
        if any(step.phase is Phase.PENDING or step.phase is Phase.DRAINING for step in self.run.steps):
            view = await self._acts.view()
            if view is not None:
                await self._take(dict(plan(self.run, view, self._clock())))

    def _begin_acts(self, tasks: asyncio.TaskGroup) -> None:
        now = self._clock()
        for number, step in enumerate(self.run.steps):
            if number in self._doing:
                continue
            act = act_of(self.run.spec, step, now, takes_requests=self._acts.takes_requests(step.identity))
            if act is not None:
                self._doing[number] = tasks.create_task(self._acts.do(self.run.id, self.run.spec, step, act))

    async def _wait(self) -> None:
        if self._doing:
            await asyncio.wait(self._doing.values(), timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(TICK_SECONDS)

    async def _take_results(self) -> None:
        done = {number: task.result() for number, task in self._doing.items() if task.done()}
        for number in done:
            del self._doing[number]
        await self._take({number: event for number, event in done.items() if event is not None})

    async def _take(self, events: Mapping[int, Event], notes: Sequence[str] = ()) -> None:
        """Apply events to steps, and store what has changed."""
        now = self._clock()
        history = [Note(now, "", text) for text in notes]
        steps, changed = list(self.run.steps), []
        for number, event in events.items():
            step, text = after(self.run.spec, steps[number], event, now)
            if step != steps[number]:
                steps[number] = step
                changed.append(number)
            if text:
                history.append(Note(now, step.identity, text))
        if changed or history:
            self.run = replace(self.run, steps=tuple(steps))
            self.run = replace(self.run, status=_unended(status_of(self.run, now)))
            await self._save(self.run, changed, history)

    async def _finish(self) -> None:
        if self._doing or not all(step.ended for step in self.run.steps):
            return
        now = self._clock()
        status = status_of(self.run, now)
        self.run = replace(self.run, status=status, ended_at=now, detail=_detail(self.run.steps))
        await self._save(self.run, [], [Note(now, "", status.value)])

    async def _renew_cordons(self) -> None:
        """Prolong the cordons while this process lives. Those that end are left alone."""
        if self._clock() < self._renew_at:
            return
        self._renew_at = self._clock() + self._renew_seconds
        for step in self.run.steps:
            if step.cordon_version and step.phase in ACTIVE and step.ends_as is None:
                await self._acts.cordon(self.run.id, step)


def _unended(status: RunStatus) -> RunStatus:
    """The end is stored by itself, when nothing is being done any more."""
    return RunStatus.RUNNING if status in RUN_ENDED else status


def _detail(steps: Sequence[Step]) -> str:
    """Why it is no success: the first failure."""
    bad = [step for step in steps if step.phase in (Phase.FAILED, Phase.ROLLED_BACK)]
    bad = bad or [step for step in steps if step.phase is Phase.CANCELLED]
    return f"{bad[0].name or bad[0].address}: {bad[0].detail}"[:500] if bad else ""
