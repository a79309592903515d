"""Does what a run's step needs: cordons, reports of gateways, calls to engines, questions to them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot
from aibrix_extproc.core.operations.agreement import EngineAnswer
from aibrix_extproc.core.operations.aims import view_of
from aibrix_extproc.core.operations.checks import QUESTIONS, judged, verdict
from aibrix_extproc.core.operations.draining import Drain, GatewayReport, drain_of
from aibrix_extproc.core.operations.planning import View
from aibrix_extproc.core.operations.recipes import Call
from aibrix_extproc.core.operations.records import Answer, RunSpec, Step
from aibrix_extproc.core.operations.requests import request_of
from aibrix_extproc.core.operations.runs import (
    Act,
    Answered,
    Checked,
    Cordoned,
    Drained,
    Event,
    Uncordoned,
    current_call,
)
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS

T = TypeVar("T")
logger = logging.getLogger(__name__)

LIVE_SECONDS: Final = 15.0  # a gateway without cordons reports every 5 s
PAUSE_SECONDS: Final = 0.2  # between two looks at reports, or two questions to an engine
QUESTION_SECONDS: Final = 10.0
FAILURE_SECONDS: Final = 1.0
MAX_ANSWER: Final = 2_000  # characters of an engine's answer that are kept


class Cordons(Protocol):
    """Cordons of runs, as rows of control state."""

    async def put(self, cordon_id: str, identity: str, run_id: str, life_seconds: float) -> int:
        """Begin or prolong a cordon; the version of its row."""
        ...

    async def remove(self, cordon_id: str) -> None:
        """End a cordon; one that has ended stays so."""
        ...

    async def lives(self, cordon_id: str) -> bool:
        """Whether it is in force."""
        ...

    async def cordoned(self, fleet: Snapshot) -> Mapping[str, int]:
        """The endpoints that a cordon keeps from requests, whoever made it: by identity the version of its row."""
        ...


class Fleet(Protocol):
    """The engines as this process polls them."""

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as of now."""
        ...


class RunActs:
    """The world as runs see it. `reports` are those of the gateways; `tell`: these engines may be changed."""

    def __init__(
        self,
        fleet: Fleet,
        client: EngineOps,
        cordons: Cordons,
        reports: Callable[[], Awaitable[Sequence[GatewayReport]]],
        tell: Callable[[Sequence[Endpoint]], Awaitable[None]],
        cordon_seconds: float,
    ) -> None:
        self._fleet = fleet
        self._client = client
        self._cordons = cordons
        self._reports = reports
        self._tell = tell
        self._cordon_seconds = cordon_seconds

    async def view(self) -> View | None:
        """The fleet as the planner sees it; None if the database cannot tell who is cordoned."""
        fleet = self._fleet.snapshot
        cordoned = await _patiently(self._cordons.cordoned(fleet))
        return None if cordoned is None else view_of(fleet, cordoned)

    async def drains(self) -> Mapping[str, Drain]:
        """The drains of the cordoned endpoints, by identity."""
        cordoned = await self._cordons.cordoned(self._fleet.snapshot)
        reports = await self._reports() if cordoned else ()
        return {name: drain_of(reports, name, version, LIVE_SECONDS) for name, version in cordoned.items()}

    def takes_requests(self, identity: str) -> bool:
        """Whether our own polls find the engine ready."""
        endpoint = self._endpoint(identity)
        return endpoint is not None and endpoint.health is Health.READY

    async def do(self, run_id: str, spec: RunSpec, step: Step, act: Act) -> Event | None:
        """Do one act; its result, or None if the database failed and the act is to be done again."""
        match act:
            case Act.CORDON:
                version = await self.cordon(run_id, step)
                return None if version is None else Cordoned(version)
            case Act.DRAIN:
                return await _patiently(self._drain(step))
            case Act.CALL:
                return await self._call(spec, step)
            case Act.CHECK:
                return await self._check(spec, step)
            case Act.UNCORDON:
                return await _patiently(self._uncordon(run_id, step))

    async def cordon(self, run_id: str, step: Step) -> int | None:
        """Keep requests away from a step's endpoint, from now on for the life of a cordon; the row's version."""
        put = self._cordons.put(_cordon_id(run_id, step), step.identity, run_id, self._cordon_seconds)
        return await _patiently(put)

    async def _uncordon(self, run_id: str, step: Step) -> Uncordoned:
        await self._cordons.remove(_cordon_id(run_id, step))
        return Uncordoned()

    async def has_cordon(self, run_id: str, step: Step) -> bool:
        """Whether a step's cordon is in force."""
        return await self._cordons.lives(_cordon_id(run_id, step))

    async def _drain(self, step: Step) -> Drained:
        drain = drain_of(await self._reports(), step.identity, step.cordon_version, LIVE_SECONDS)
        if not drain.complete:
            await asyncio.sleep(PAUSE_SECONDS)
        return Drained(drain)

    async def _call(self, spec: RunSpec, step: Step) -> Answered:
        call = current_call(spec, step)
        answer = await self._ask(step.identity, call.operation, call.params, spec.call_seconds)
        endpoint = self._endpoint(step.identity)
        if endpoint is not None:
            await self._tell([endpoint])
        return Answered(answer)

    async def _check(self, spec: RunSpec, step: Step) -> Checked:
        call: Call = current_call(spec, step)
        question = QUESTIONS.get(call.check)
        if question is None:
            return judged(call, step.answer, unsure=step.unsure)
        found = verdict(call, await self._ask(step.identity, question, {}, QUESTION_SECONDS))
        if not found.ok:
            await asyncio.sleep(PAUSE_SECONDS)
        return found

    async def _ask(self, identity: str, operation: str, params: Mapping[str, Any], seconds: float) -> Answer:
        endpoint = self._endpoint(identity)
        if endpoint is None:
            return Answer(failure="the endpoint has left the fleet")
        row = ENGINE_OPERATIONS[operation]
        return _kept(await self._client.call(endpoint, row, request_of(row, params), seconds))

    def _endpoint(self, identity: str) -> Endpoint | None:
        return next((one for one in self._fleet.snapshot.endpoints if one.identity == identity), None)


async def _patiently(act: Awaitable[T]) -> T | None:
    """The result; None, after a pause, if the database failed."""
    try:
        return await act
    except (DatabaseError, OSError, TimeoutError) as error:
        logger.warning("the database failed in an operation, it is tried again: %s", repr(error)[:300])
        await asyncio.sleep(FAILURE_SECONDS)
        return None


def _cordon_id(run_id: str, step: Step) -> str:
    return f"{run_id}:{step.identity}"[:256]


def _kept(answer: EngineAnswer) -> Answer:
    body = answer.body[: 4 * MAX_ANSWER].decode("utf-8", "replace")[:MAX_ANSWER]
    return Answer(answer.status, body, answer.failure, answer.seconds)
