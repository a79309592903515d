"""Loads and unloads adapters until engines have the desired ones, in the process that holds the lease.

The states in memory are the truth while the lease is held; they are written before an engine is called, so that the
next holder knows what is ours. One task at a time works on an engine.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from msgspec.structs import replace

from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.app.metadata.engine_steps import EngineSteps, Failed, Loaded
from aibrix_extproc.app.metadata.held_lease import HeldLease
from aibrix_extproc.app.metadata.wants import Wants
from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot
from aibrix_extproc.core.operations.placed import AdapterState, State, wait_seconds
from aibrix_extproc.core.operations.reconcile import EngineSeen, Kind, Plan, Seen, Step, Verb, Where, plan_of

logger = logging.getLogger(__name__)

AT_ONCE: Final = 64  # engines that are worked on
STEPS_AT_ONCE: Final = 8  # of one engine, before its list is read again
BELIEVE_SECONDS: Final = 10.0  # a list that we read ourselves counts for so long if our polls say otherwise
# Drift that concerns no engine, and is shown as a state of the adapter alone.
_OVERALL: Final = frozenset({Kind.TOO_FEW, Kind.NAME_TAKEN})


Tell = Callable[[Sequence[Endpoint]], Awaitable[None]]


class Fleet(Protocol):
    """The engines as this process polls them."""

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as of now."""
        ...


class AdapterReconciler:
    """`tell`: these engines were changed. `clock`: the database's. `done`: something has changed, plan again."""

    def __init__(
        self, fleet: Fleet, wants: Wants, ledger: AdapterStates, steps: EngineSteps,
        tell: Tell, clock: Callable[[], float], done: Callable[[], None], *, capacity: int | None = None,
    ) -> None:  # fmt: skip
        self._fleet = fleet
        self._wants = wants
        self._ledger = ledger
        self._steps = steps
        self._tell = tell
        self._clock = clock
        self._capacity = capacity
        self._states: dict[Where, AdapterState] = {}
        self._dirty: set[Where] = set()  # changed, and not written yet
        self._lists: dict[str, tuple[Loaded, float]] = {}  # identity -> what we read ourselves, believed until
        self._busy: set[str] = set()
        self._demanded: dict[str, float] = {}
        self._done = done

    async def start(self) -> None:
        """Take over: read what is stored. Raises DatabaseError."""
        self._states = {(one.adapter, one.identity): one for one in await self._ledger.all()}
        self._dirty.clear()
        self._lists.clear()
        self._busy.clear()

    async def tick(self, lease: HeldLease, group: asyncio.TaskGroup) -> None:
        """Plan, store, and begin what is due. Raises DatabaseError and LeaseLostError."""
        fleet = self._fleet.snapshot
        if not fleet.known or not (self._wants.adapters or self._states or self._dirty):
            return
        await self._take_demands(fleet)
        endpoints = {one.identity: one for one in fleet.endpoints}
        self._try_again(endpoints)
        plan = plan_of(self._seen(fleet))
        self._note(plan, endpoints)
        due = self._due(plan)
        for identity, steps in due.items():
            self._begin(endpoints[identity], steps)
        await self._flush(lease)
        for identity, steps in due.items():
            self._busy.add(identity)
            group.create_task(self._work(endpoints[identity], steps, lease), name=f"adapters of {identity}")

    async def _take_demands(self, fleet: Snapshot) -> None:
        lazy = {one.name for one in self._wants.adapters if one.lazy}
        self._demanded = {name: at for name, at in self._demanded.items() if name in lazy}
        for name in lazy & self._wants.demands.keys():
            self._demanded[name] = self._wants.demands[name].last_at
            if fleet.ready_by_model.get(name):
                await self._wants.meet(name)

    def _try_again(self, endpoints: Mapping[str, Endpoint]) -> None:
        """A wait after failures ends with a change of the record, and when the engine was away."""
        for (name, identity), state in list(self._states.items()):
            one = endpoints.get(identity)
            is_away = one is not None and one.health is not Health.READY
            if state.next_at and (name in self._wants.changed or is_away):
                self._put(replace(state, next_at=0.0, failures=0))
        self._wants.changed = frozenset()

    def _seen(self, fleet: Snapshot) -> Seen:
        ours = {where: mine for where, state in self._states.items() if (mine := state.ours) is not None}
        failing = {where for where, state in self._states.items() if state.state is State.FAILED}
        engines = tuple(self._engine(one) for one in fleet.endpoints)
        return Seen(self._wants.adapters, engines, ours, self._demanded, failing)

    def _engine(self, endpoint: Endpoint) -> EngineSeen:
        bases = frozenset(model.id for model in endpoint.models if model.parent is None)
        loaded: Loaded = {model.id: model.path for model in endpoint.models if model.parent is not None}
        ours = self._lists.get(endpoint.identity)
        if ours is not None:
            if ours[0] == loaded or self._clock() > ours[1] or endpoint.health is not Health.READY:
                del self._lists[endpoint.identity]
            else:
                loaded = ours[0]
        usable = endpoint.health is Health.READY
        return EngineSeen(endpoint.identity, bases, loaded, endpoint.labels, usable, self._capacity)

    def _due(self, plan: Plan) -> dict[str, list[Step]]:
        """The steps of each engine that nobody works on, without those that wait after a failure."""
        found: dict[str, list[Step]] = {}
        now = self._clock()
        for step in plan.steps:
            state = self._states.get((step.adapter, step.identity))
            waits = state is not None and state.next_at > now
            if step.identity not in self._busy and not waits and len(found) + len(self._busy) < AT_ONCE:
                found.setdefault(step.identity, []).append(step)
        return {identity: steps[:STEPS_AT_ONCE] for identity, steps in found.items()}

    def _note(self, plan: Plan, endpoints: Mapping[str, Endpoint]) -> None:
        """Bring the states to what the plan sees: what is loaded is ours from now on, what is gone has no state."""
        overall = {one.adapter: one for one in plan.drift if one.kind in _OVERALL}
        missing = {(one.adapter, one.identity): one for one in plan.drift if one.identity}
        kept: set[Where] = {(name, "") for name in overall}
        for name, drift in overall.items():
            self._put(AdapterState(name, "", "", State.FAILED, detail=f"{drift.kind.value}: {drift.detail}"))
        paths = {one.name: one.path for one in self._wants.adapters}
        for name, chosen in plan.wanted.items():
            for identity in chosen:
                where = name, identity
                kept.add(where)
                if identity in self._busy:
                    continue
                if where in missing:
                    self._put(self._wanted(name, endpoints[identity]))
                else:
                    listed = self._engine(endpoints[identity]).loaded.get(name)
                    self._put(_loaded(name, endpoints[identity], paths[name], listed))
        for where, drift in missing.items():
            if drift.kind is Kind.FOUND:
                kept.add(where)
                self._put(replace(_blank(drift.adapter, endpoints[where[1]]), state=State.FOUND))
        for where in self._states.keys() - kept:
            if where[1] not in endpoints or (where[1] not in self._busy and self._is_over(where, endpoints[where[1]])):
                self._states.pop(where)
                self._dirty.add(where)

    def _is_over(self, where: Where, endpoint: Endpoint) -> bool:
        """Whether nothing is left of an adapter that is not wanted on an engine.

        Our polls may be older than the state, so one that says nothing is believed after a while only.
        """
        state = self._states[where]
        is_old = state.at + BELIEVE_SECONDS < self._clock()
        return state.ours is None or (is_old and where[0] not in self._engine(endpoint).loaded)

    def _wanted(self, name: str, endpoint: Endpoint) -> AdapterState:
        before = self._states.get((name, endpoint.identity))
        if before is None:
            return _blank(name, endpoint)
        return before if before.state is State.FAILED else replace(before, state=State.WANTED)

    def _begin(self, endpoint: Endpoint, steps: list[Step]) -> None:
        for step in steps:
            before = self._states.get((step.adapter, step.identity)) or _blank(step.adapter, endpoint)
            # What replaces another adapter is ours only once it has.
            path = before.path or (step.path if step.verb is Verb.LOAD else "")
            state = State.LOADING if step.verb in (Verb.LOAD, Verb.RELOAD) else State.UNLOADING
            self._put(replace(before, state=state, path=path))

    def _put(self, state: AdapterState) -> None:
        where = state.adapter, state.identity
        before = self._states.get(where)
        if before is not None and replace(before, at=0.0) == replace(state, at=0.0):
            return
        self._states[where] = replace(state, at=self._clock())
        self._dirty.add(where)

    async def _flush(self, lease: HeldLease) -> None:
        dirty, self._dirty = self._dirty, set()
        if not dirty:
            return
        put = [self._states[where] for where in dirty if where in self._states]
        try:
            await self._ledger.write(lease.lease, put, [where for where in dirty if where not in self._states])
        except BaseException:
            self._dirty |= dirty
            raise

    async def _work(self, endpoint: Endpoint, steps: list[Step], lease: HeldLease) -> None:
        """The steps of one engine, then its own word."""
        try:
            results: list[tuple[Step, Failed | None]] = []
            for step in steps:
                if not lease.alive:
                    return
                results.append((step, await self._steps.take(endpoint, step)))
            listed = await self._steps.loaded(endpoint)
            if isinstance(listed, Failed):
                listed = {}
            else:
                self._lists[endpoint.identity] = listed, self._clock() + BELIEVE_SECONDS
            for step, failed in results:
                self._ended(endpoint, step, failed, listed)
            await self._tell([endpoint])
        finally:
            self._busy.discard(endpoint.identity)
            self._done()

    def _ended(self, endpoint: Endpoint, step: Step, failed: Failed | None, listed: Loaded) -> None:
        """The state after a step, by the engine's own list."""
        where = step.adapter, step.identity
        facts = {"adapter": step.adapter, "endpoint": endpoint.address, "step": step.verb.value}
        before = self._states.get(where) or _blank(step.adapter, endpoint)
        if failed is not None and not (step.verb is Verb.LOAD and step.adapter in listed):
            logger.warning("adapter step failed", extra={**facts, "error": failed.detail[:300]})
            failures = before.failures + 1
            next_at = self._clock() + wait_seconds(failures)
            self._put(replace(before, state=State.FAILED, detail=failed.detail, failures=failures, next_at=next_at))
            return
        logger.info("adapter step", extra=facts)
        if step.verb in (Verb.UNLOAD, Verb.EVICT):
            if step.adapter not in listed and self._states.pop(where, None) is not None:
                self._dirty.add(where)
        elif step.adapter in listed:
            # One that somebody else had loaded before us is ours if it is from our path; the next plan tells.
            path = step.path if failed is None else ""
            self._put(_loaded(step.adapter, endpoint, path, listed[step.adapter]))


def _blank(name: str, endpoint: Endpoint) -> AdapterState:
    return AdapterState(name, endpoint.identity, endpoint.address, State.WANTED, endpoint.name)


def _loaded(name: str, endpoint: Endpoint, path: str, listed: str | None) -> AdapterState:
    return replace(_blank(name, endpoint), state=State.LOADED, path=path, listed=listed)
