"""Puts engines to sleep and wakes them by the policies of their models, for the process that holds the lease.

An engine is cordoned before it sleeps, so that gateways send nothing more, and its requests end first. The cordon has
an end of its own and goes away once every gateway knows by its polls that the engine sleeps.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.gateways import GatewayLedger
from aibrix_extproc.app.metadata.adapter_reconciler import Fleet, Tell
from aibrix_extproc.app.metadata.engine_steps import EngineSteps, Failed
from aibrix_extproc.app.metadata.held_lease import HeldLease
from aibrix_extproc.app.metadata.wants import Wants
from aibrix_extproc.core.control.rows import Section
from aibrix_extproc.core.fleet.cordons import Cordon, Cordons
from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot
from aibrix_extproc.core.operations.draining import GatewayReport, drain_of
from aibrix_extproc.core.operations.policies import ModelPolicy
from aibrix_extproc.core.operations.resting import EngineRest, Rest, Turn, Verb, turns

logger = logging.getLogger(__name__)

PREFIX: Final = "sleep:"  # of the ids of our cordons
LIVE_SECONDS: Final = 15.0  # a gateway that has not reported for so long counts no more
LOOK_SECONDS: Final = 0.25  # between two looks at the reports while an engine is drained
SETTLE_SECONDS: Final = 3.0  # gateways need this long at most to notice that an engine sleeps
BELIEVE_SECONDS: Final = 10.0  # what an engine said itself counts for so long if our polls say otherwise
RETRY_SECONDS: Final = 30.0  # after a failure
CORDON_SECONDS: Final = 240.0  # beyond the time of the drain
_SILENT: Final = "no answer within"  # an engine that does not answer in time may be awake
_RESTS: Final[Mapping[Health, Rest]] = {
    Health.READY: Rest.AWAKE,
    Health.ASLEEP: Rest.ASLEEP,
    Health.UNREACHABLE: Rest.GONE,
}


class RestKeeper:
    """`done`: something has changed, decide again. `clock`: the database's."""

    def __init__(
        self, fleet: Fleet, wants: Wants, control: ControlLedger, gateways: GatewayLedger, steps: EngineSteps,
        tell: Tell, clock: Callable[[], float], done: Callable[[], None],
    ) -> None:  # fmt: skip
        self._fleet = fleet
        self._wants = wants
        self._control = control
        self._gateways = gateways
        self._steps = steps
        self._tell = tell
        self._clock = clock
        self._done = done
        self._changing: set[str] = set()
        self._known: dict[str, tuple[Rest, float]] = {}  # identity -> what it said itself, believed until
        self._awake_at: dict[str, float] = {}
        self._not_before: dict[str, float] = {}  # identity -> when it is tried again

    async def start(self) -> None:
        """Take over: cordons of the process before would keep engines from requests. Raises DatabaseError."""
        self._changing.clear()
        self._known.clear()
        for row_id in await self._cordon_ids():
            await self._control.delete(Section.CORDONS, row_id)

    async def tick(self, lease: HeldLease, group: asyncio.TaskGroup) -> None:
        """Decide, and begin what is decided. Raises DatabaseError."""
        fleet = self._fleet.snapshot
        if not fleet.known or not self._wants.policies:
            return
        await self._meet(fleet)
        engines = {one.identity: one for one in fleet.endpoints if _bases(one) & self._wants.policies.keys()}
        self._forget(engines)
        now = self._clock()
        demands = {model: now - one.first_at for model, one in self._wants.demands.items()}
        rests = await self._rests(engines.values(), now)
        for turn in turns(self._wants.policies, rests, demands):
            if self._not_before.get(turn.identity, 0.0) <= now:
                self._changing.add(turn.identity)
                group.create_task(self._take(engines[turn.identity], turn, lease), name=f"{turn.verb} {turn.identity}")

    async def _meet(self, fleet: Snapshot) -> None:
        for model in self._wants.policies.keys() & self._wants.demands.keys():
            if any(not one.cordon for one in fleet.ready_by_model.get(model, ())):
                await self._wants.meet(model)

    def _forget(self, engines: Mapping[str, Endpoint]) -> None:
        for book in (self._known, self._awake_at, self._not_before):
            for identity in book.keys() - engines.keys():
                book.pop(identity)

    async def _rests(self, engines: Iterable[Endpoint], now: float) -> list[EngineRest]:
        cordons = Cordons(await self._cordons_of_others(), now)
        reports = [one for one in await self._gateways.reports() if one.age_seconds <= LIVE_SECONDS]
        return [self._rest(one, cordons, reports, now) for one in engines]

    def _rest(self, endpoint: Endpoint, cordons: Cordons, reports: Sequence[GatewayReport], now: float) -> EngineRest:
        identity = endpoint.identity
        used = [one.usage.get(identity) for one in reports]
        known = [one for one in used if one is not None]
        is_known = bool(used) and len(known) == len(used)  # a gateway that says nothing of it may have requests there
        awake_at = self._awake_at.get(identity)
        return EngineRest(
            identity, _bases(endpoint), self._rest_of(endpoint, now),
            is_cordoned=cordons.of(endpoint) is not None, is_changing=identity in self._changing,
            in_flight=sum(count for count, _ in known) if is_known else None,
            idle_seconds=min(idle + one.age_seconds for (_, idle), one in zip(known, reports, strict=True))
            if is_known else None,
            awake_seconds=float("inf") if awake_at is None else now - awake_at,
        )  # fmt: skip

    def _rest_of(self, endpoint: Endpoint, now: float) -> Rest:
        polled = _RESTS.get(endpoint.health, Rest.UNKNOWN)
        if polled is Rest.GONE and endpoint.detail.startswith(_SILENT):
            polled = Rest.UNKNOWN
        said = self._known.get(endpoint.identity)
        if said is None or said[0] is polled or now > said[1] or polled is Rest.GONE:
            self._known.pop(endpoint.identity, None)
            return polled
        return said[0]

    async def _take(self, endpoint: Endpoint, turn: Turn, lease: HeldLease) -> None:
        identity = endpoint.identity
        try:
            try:
                failed = await (self._sleep if turn.verb is Verb.SLEEP else self._wake)(endpoint, turn.policy, lease)
            except (DatabaseError, OSError) as error:
                failed = Failed(f"the database failed: {error!r}"[:300])
            facts = {"endpoint": endpoint.address, "model": turn.policy.model, "step": turn.verb.value}
            if failed is None:
                logger.info("sleep or wake of an engine", extra=facts)
                self._known[identity] = (
                    Rest.ASLEEP if turn.verb is Verb.SLEEP else Rest.AWAKE, self._clock() + BELIEVE_SECONDS,
                )  # fmt: skip
            else:
                logger.warning("sleep or wake of an engine failed", extra={**facts, "error": failed.detail[:300]})
                self._not_before[identity] = self._clock() + RETRY_SECONDS
            await self._tell([endpoint])
        finally:
            self._changing.discard(identity)
            self._done()
        if failed is None and turn.verb is Verb.SLEEP:
            await asyncio.sleep(SETTLE_SECONDS)
        await self._uncordon(identity)

    async def _sleep(self, endpoint: Endpoint, policy: ModelPolicy, lease: HeldLease) -> Failed | None:
        now = self._clock()
        cordon = Cordon(
            identity=endpoint.identity, reason="it is put to sleep", by="policy", wall_created_at=now,
            wall_expires_at=now + policy.drain_seconds + CORDON_SECONDS,
        )  # fmt: skip
        row = await self._control.put(Section.CORDONS, _cordon_id(endpoint.identity), cordon)
        await self._drain(endpoint.identity, row.version, now + policy.drain_seconds)
        return await self._steps.sleep(endpoint, policy) if lease.alive else Failed("the lease was lost")

    async def _drain(self, identity: str, version: int, deadline: float) -> None:
        """Wait for the end of the engine's requests; those that take longer are waited for by the engine."""
        while self._clock() < deadline:
            if drain_of(await self._gateways.reports(), identity, version, LIVE_SECONDS).complete:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def _wake(self, endpoint: Endpoint, policy: ModelPolicy, lease: HeldLease) -> Failed | None:
        if not lease.alive:
            return Failed("the lease was lost")
        failed = await self._steps.wake(endpoint, policy)
        if failed is None:
            self._awake_at[endpoint.identity] = self._clock()
        return failed

    async def _uncordon(self, identity: str) -> None:
        """A cordon that stays because the database is away ends by itself."""
        if identity in self._changing:  # the next step has it
            return
        try:
            await self._control.delete(Section.CORDONS, _cordon_id(identity))
        except (DatabaseError, OSError) as error:
            logger.warning("a cordon stays until its end", extra={"identity": identity, "error": repr(error)[:300]})

    async def _cordon_ids(self) -> list[str]:
        return [row_id for row_id, _ in await self._all_cordons() if row_id.startswith(PREFIX)]

    async def _cordons_of_others(self) -> list[Cordon]:
        return [cordon for row_id, cordon in await self._all_cordons() if not row_id.startswith(PREFIX)]

    async def _all_cordons(self) -> list[tuple[str, Cordon]]:
        found: list[tuple[str, Cordon]] = []
        after: str | None = None
        while True:
            rows, more = await self._control.page(Section.CORDONS, after, 500)
            found += [(row.id, msgspec.json.decode(row.data or b"", type=Cordon)) for row in rows]
            if not more or not rows:
                return found
            after = rows[-1].id


def _cordon_id(identity: str) -> str:
    return f"{PREFIX}{identity}"[:256]


def _bases(endpoint: Endpoint) -> frozenset[str]:
    return frozenset(model.id for model in endpoint.models if model.parent is None)
