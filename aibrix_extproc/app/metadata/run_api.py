"""Operation runs for operators: ask for one, list, look, cancel."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from aibrix_extproc.adapters.ledger.runs import MAX_UNFINISHED, KeyReusedError, RunLedger, TooManyRunsError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, Reply, StreamReply, good, refuse
from aibrix_extproc.app.metadata.following import Followed, Followers
from aibrix_extproc.app.metadata.run_acts import Fleet, RunActs
from aibrix_extproc.core.access.principal import Principal
from aibrix_extproc.core.files import ids
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.paging import list_object, read_page
from aibrix_extproc.core.operations.aims import aimed_at, step_of
from aibrix_extproc.core.operations.parameters import invalid
from aibrix_extproc.core.operations.planning import short_models
from aibrix_extproc.core.operations.reading import read_spec
from aibrix_extproc.core.operations.recipes import ROWS
from aibrix_extproc.core.operations.records import RUN_ENDED, Run, RunSpec, run_object

MAX_KEY: Final = 255
IDEMPOTENCY_KEY: Final = "idempotency-key"
_NAMED: Final = 5  # models in an error


@dataclass(frozen=True, slots=True)
class RunApi:
    """Handlers of runs by operation id. `fleet` and `acts` are None where the service knows no engines."""

    ledger: RunLedger
    followers: Followers
    fleet: Fleet | None
    acts: RunActs | None
    entropy: Callable[[int], bytes]
    wake: Callable[[], None]  # there is a run, or one to cancel

    def handlers(self) -> Mapping[str, Handler]:
        """The handlers of an API server, by operation id."""
        return {
            "create_run": self.create,
            "list_runs": self.list,
            "retrieve_run": self.retrieve,
            "run_events": self.follow,
            "cancel_run": self.cancel,
        }

    async def create(self, call: Call) -> Reply:
        """Ask for a run: 202, and the run as it is. The same idempotency key gives the same run."""
        key = _idempotency_key(call)
        fields = await call.json()
        if self.fleet is None or self.acts is None:
            raise refuse("no_fleet")
        if not self.fleet.snapshot.known:
            raise refuse("no_engines", path=call.request.path)
        spec: RunSpec = good(read_spec(fields))
        endpoints = good(aimed_at(spec.target, self.fleet.snapshot))
        _check_rights(call.principal, spec, endpoints)
        request = hashlib.sha256(msgspec.json.encode(spec, order="deterministic")).hexdigest()
        steps = tuple(step_of(one) for one in endpoints)
        run = Run(ids.operation_id(self.entropy(ids.ENTROPY_BYTES)), spec, steps, created_by=call.caller)
        try:
            earlier = None if key is None else await self.ledger.of_key(call.caller, key, request)
            run = earlier or await self.ledger.add(await self._within_reach(run), key, request)
        except KeyReusedError:
            raise refuse("idempotency_key_reused") from None
        except TooManyRunsError:
            raise refuse("too_many_runs", limit=str(MAX_UNFINISHED)) from None
        call.target.update(_audited(run))
        self.wake()
        return Reply(run_object(run), 202)

    async def _within_reach(self, run: Run) -> Run:
        """The run, if it leaves enough engines, or is forced to leave fewer."""
        view = await self.acts.view() if self.acts is not None else None
        if view is None:
            raise refuse("storage_unavailable")
        short = short_models(run.spec, [step.identity for step in run.steps], view)
        if not short:
            return run
        if not run.spec.force:
            names = ", ".join(shown(name) for name in sorted(short)[:_NAMED])
            raise refuse("last_engine", keep=str(run.spec.keep_available), models=names)
        return replace(run, spec=replace(run.spec, exempt=short))

    async def list(self, call: Call) -> Reply:
        """One page of all runs, newest first."""
        page = good(read_page(call.query, default=20, largest=100))
        found = await self.ledger.page(page)
        if found is None:
            raise refuse("run_not_found", id=shown(page.after or "", 80))
        runs, has_more = found
        return Reply(list_object([run_object(run) for run in runs], has_more=has_more))

    async def retrieve(self, call: Call) -> Reply:
        """One run with its history."""
        run = await self._found(call)
        return Reply(run_object(run, await self.ledger.history(run.id)))

    async def follow(self, call: Call) -> StreamReply:
        """The run as events: now, with each change, and with its end."""
        first = await self._found(call)
        return self.followers.reply(
            Followed(
                first, find=lambda: self.ledger.find(first.id), state=msgspec.json.encode, event=_event,
                has_ended=lambda run: run.status in RUN_ENDED,
            )
        )  # fmt: skip

    async def cancel(self, call: Call) -> Reply:
        """Ask for the end of a run; one that has ended stays as it is."""
        run = await self._found(call)
        _check_operations(call.principal, run.spec)
        await self.ledger.ask_cancel(run.id)
        call.target.update(_audited(run))
        self.wake()
        return Reply(run_object(await self.ledger.find(run.id) or run))

    async def _found(self, call: Call) -> Run:
        run_id = call.parameters.get("run_id", "")
        run = await self.ledger.find(run_id) if ids.is_id(run_id) else None
        if run is None:
            raise refuse("run_not_found", id=shown(run_id, 80))
        return run


def _idempotency_key(call: Call) -> str | None:
    key = call.request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and (not 0 < len(key) <= MAX_KEY or not (key.isascii() and key.isprintable())):
        message = f"Invalid 'Idempotency-Key': expected 1 to {MAX_KEY} printable ASCII characters."
        good(invalid("Idempotency-Key", message))
    return key


def _check_rights(principal: Principal, spec: RunSpec, endpoints: tuple[Endpoint, ...]) -> None:
    """An operator needs the right to each operation, and to every base model of each engine: all feel it."""
    if spec.force and not principal.is_admin:
        raise refuse("permission_denied", what="'force'")
    _check_operations(principal, spec)
    for model in sorted({model.id for one in endpoints for model in one.models if model.parent is None}):
        if not all(principal.may(right, model=model) for right in _rights(spec)):
            raise refuse("permission_denied", what=f"engines of the model '{shown(model)}'")


def _check_operations(principal: Principal, spec: RunSpec) -> None:
    for right in _rights(spec):
        if not principal.may(right):
            raise refuse("permission_denied", what=f"the operation '{right}'")


def _rights(spec: RunSpec) -> list[str]:
    """The operations of engines that a run needs the right to."""
    return [ROWS[ask.operation].right or ask.operation for ask in spec.asks]


def _audited(run: Run) -> Mapping[str, object]:
    operations = [ask.operation for ask in run.spec.asks]
    return {"run": run.id, "operations": operations, "endpoints": [step.address for step in run.steps[:20]]}


def _event(run: Run) -> bytes:
    return b"event: operation\ndata: %b\n\n" % msgspec.json.encode(run_object(run))
