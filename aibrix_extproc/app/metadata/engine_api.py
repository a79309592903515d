"""vLLM's operational paths, asked of all engines that they concern.

The table of operations says what is accepted, the fleet says which engines there are, `agreement` makes one answer of
theirs. Nothing is asked before everything was checked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.adapters.engineops.turns import Turns
from aibrix_extproc.adapters.openai_http.call import Call, Handler, RawReply, good, refuse
from aibrix_extproc.app.metadata.engine_fleet import EngineFleet
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.operations.adapters import LIST_MODELS, NAME, Found, conflicts, find, needless
from aibrix_extproc.core.operations.agreement import EngineAnswer, agreed, described
from aibrix_extproc.core.operations.requests import MODEL, EngineRequest, read_parameters, request_of
from aibrix_extproc.core.operations.table import ROWS, Adapters, EngineOperation, News
from aibrix_extproc.core.operations.targets import TARGET_ENDPOINTS, Target, targets

MAX_AT_ONCE: Final = 64  # engines of one request that are asked at the same time
MAX_NAMED: Final = 20  # engines that the audit names for a request
# Where an engine says nothing about its text, as vLLM does with adapters; without a type, clients would guess.
TEXT: Final = "text/plain; charset=utf-8"

_NO_TURN: Final = "not asked: the time was over before its turn"

Tell = Callable[[Sequence[Endpoint]], Awaitable[None]]
T = TypeVar("T")


class EngineApi:
    """Handlers of vLLM's operational paths by operation id. `tell`: these engines may be changed."""

    def __init__(self, fleet: EngineFleet | None, client: EngineOps, tell: Tell) -> None:
        self._fleet = fleet
        self._client = client
        self._tell = tell
        self._adapters = Turns()  # by name: of two requests about one adapter, the second sees what the first did

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers of an API server, by operation id."""
        return {row.id: partial(self._serve, row) for row in ROWS}

    async def _serve(self, operation: EngineOperation, call: Call) -> RawReply:
        parameters = await _parameters(operation, call)
        endpoints = self._targets(operation, parameters, call)
        call.target.update(_target(parameters, endpoints))
        answers = await self._answers(operation, parameters, endpoints)
        if operation.news is not News.NONE:
            asked = {one.address for one in answers if not one.skipped}
            await self._tell([one for one in endpoints if one.address in asked])
        failed = [described(one) for one in answers if not one.is_good]
        if failed:
            call.target["failed"] = failed[:MAX_NAMED]
        answer = good(agreed(operation, answers))
        return RawReply(answer.body, answer.content_type or TEXT, answer.status)

    def _targets(self, operation: EngineOperation, parameters: Mapping[str, Any], call: Call) -> tuple[Endpoint, ...]:
        if self._fleet is None:
            raise refuse("no_fleet")
        if not self._fleet.snapshot.known:
            raise refuse("no_engines", path=operation.path)
        wanted = Target(call.query.get(MODEL), call.request.headers.get(TARGET_ENDPOINTS), parameters.get(NAME))
        return good(targets(operation, wanted, self._fleet.snapshot, call.principal))

    async def _answers(
        self, operation: EngineOperation, parameters: Mapping[str, Any], endpoints: tuple[Endpoint, ...]
    ) -> list[EngineAnswer]:
        """The answer of each engine; all of it within the operation's time."""
        ends_at = asyncio.get_running_loop().time() + operation.seconds
        if operation.adapters is Adapters.NONE:
            request = request_of(operation, parameters)
            return await self._each(endpoints, operation, request, ends_at, _Light().kept)
        try:
            async with asyncio.timeout_at(ends_at) as waiting, self._adapters.of(parameters[NAME]):
                waiting.reschedule(None)
                return await self._of_adapter(operation, parameters, endpoints, ends_at)
        except TimeoutError:
            return [EngineAnswer(one.address, failure=_NO_TURN) for one in endpoints]

    async def _of_adapter(
        self,
        operation: EngineOperation,
        parameters: Mapping[str, Any],
        endpoints: tuple[Endpoint, ...],
        ends_at: float,
    ) -> list[EngineAnswer]:
        """Look at what each engine has under the name. Then ask those that are not as wanted."""

        def look(answer: EngineAnswer) -> tuple[Found, EngineAnswer]:
            return find(answer, parameters), answer.cut()

        look_ends_at = asyncio.get_running_loop().time() + LIST_MODELS.seconds
        looks = await self._each(endpoints, LIST_MODELS, request_of(LIST_MODELS, {}), min(look_ends_at, ends_at), look)
        for found, answer in looks:
            if conflicts(operation, parameters, found):
                raise refuse("adapter_conflict", adapter=parameters[NAME], endpoint=answer.address)
        needed = {one.address: needless(operation, parameters, found) for found, one in looks}
        if all(needed.values()):
            needed = dict.fromkeys(needed, "")  # vLLM's own refusal says best that nothing is to be done
        done = {address: EngineAnswer(address, skipped=reason) for address, reason in needed.items() if reason}
        done |= {one.address: one for _, one in looks if one.failure}
        asked = [one for one in endpoints if one.address not in done]
        request = request_of(operation, parameters)
        done |= {one.address: one for one in await self._each(asked, operation, request, ends_at, _Light().kept)}
        return [done[one.address] for one in endpoints]

    async def _each(
        self,
        endpoints: Sequence[Endpoint],
        operation: EngineOperation,
        request: EngineRequest,
        ends_at: float,
        keep: Callable[[EngineAnswer], T],
    ) -> list[T]:
        """Asks each endpoint, and keeps of each answer what `keep` returns."""
        loop, slots = asyncio.get_running_loop(), asyncio.Semaphore(MAX_AT_ONCE)

        async def ask(endpoint: Endpoint) -> T:
            async with slots:
                left = ends_at - loop.time()
                if left <= 0:
                    return keep(EngineAnswer(endpoint.address, failure=_NO_TURN))
                return keep(await self._client.call(endpoint, operation, request, left))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(endpoint)) for endpoint in endpoints]
        return [task.result() for task in tasks]


class _Light:
    """Keeps one whole body, of the first answer; of others that differ only what an error shows."""

    def __init__(self) -> None:
        self._first: bytes | None = None

    def kept(self, answer: EngineAnswer) -> EngineAnswer:
        if self._first is None:
            self._first = answer.body
        return replace(answer, body=self._first) if answer.body == self._first else answer.cut()


async def _parameters(operation: EngineOperation, call: Call) -> Mapping[str, Any]:
    has_body = any(not one.in_query for one in operation.parameters)
    body = await call.json() if has_body else {}
    query: dict[str, list[str]] = {}
    for name, value in call.query.items():
        query.setdefault(name, []).append(value)
    return good(read_parameters(operation, query, body))


def _target(parameters: Mapping[str, Any], endpoints: Sequence[Endpoint]) -> Mapping[str, object]:
    """The target of a request for the audit: its short parameters and its engines."""
    short = {name: value for name, value in parameters.items() if isinstance(value, str | int)}
    named = [one.address for one in endpoints[:MAX_NAMED]]
    return {"parameters": short, "endpoints": named, "engines": len(endpoints)}
