"""Operation runs in the ledger: asked for, held by one process at a time, and kept as history.

A run is held by a fenced lease as work of batches is (`work.py`): every change of the holder fails once it is lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Row, and_, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import operation_history, operation_runs, operation_steps
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.adapters.ledger.work import LeaseLostError
from aibrix_extproc.core.openai.contract.paging import Page
from aibrix_extproc.core.operations.planning import in_turn
from aibrix_extproc.core.operations.records import RUN_ENDED, Note, Phase, Run, RunSpec, RunStatus, Step

MAX_UNFINISHED: Final = 100
MAX_NOTES: Final = 5_000  # of one run
MAX_TEXT: Final = 1_000
_UNFINISHED: Final = tuple(status.value for status in RunStatus if status not in RUN_ENDED)
_SPEC: Final = msgspec.json.Decoder(RunSpec)
_STEP: Final = msgspec.json.Decoder(Step)


class TooManyRunsError(Exception):
    """MAX_UNFINISHED runs have not ended."""


class KeyReusedError(Exception):
    """The caller has used the idempotency key for another request."""


@dataclass(frozen=True, slots=True)
class RunClaim:
    """A run that this process works on. `resumed`: somebody had begun it."""

    run: Run
    fence: int
    resumed: bool


class RunLedger:
    """Reads and writes runs. `owner` names this process in the rows that it holds, for people."""

    def __init__(self, database: Database, owner: str, lease_seconds: float) -> None:
        self._database = database
        self._owner = owner
        self._lease_seconds = lease_seconds

    # ------------------------------------------------------------------------------------------------- clients

    @whole
    async def add(self, run: Run, key: str | None, request: str) -> Run:
        """Store a run; the earlier one if the caller has used the key for the same request.

        `request` is a hash of what was asked for. Raises TooManyRunsError and KeyReusedError.
        """
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            await self._lock_unfinished(connection)
            if key is not None and (earlier := await _of_key(connection, run.created_by, key, request)) is not None:
                return earlier
            if await connection.scalar(_count_of_unfinished()) >= MAX_UNFINISHED:
                raise TooManyRunsError
            run = msgspec.structs.replace(run, created_at=now)
            await connection.execute(
                insert(operation_runs).values(
                    id=run.id, caller=run.created_by, idempotency_key=key, request=request,
                    spec=msgspec.json.encode(run.spec).decode(), status=run.status.value, created_at=now,
                )
            )  # fmt: skip
            rows = [
                {"run_id": run.id, "number": number, "state": msgspec.json.encode(step).decode()}
                for number, step in enumerate(run.steps)
            ]
            await connection.execute(insert(operation_steps), rows)
            return run

    async def _lock_unfinished(self, connection: AsyncConnection) -> None:
        """Let runs be asked for one after the other, so that they are counted, and their keys compared."""
        if not self._database.is_sqlite:
            await connection.execute(select(func.pg_advisory_xact_lock(0x72756E73)))  # "runs"

    @whole
    async def of_key(self, caller: str, key: str, request: str) -> Run | None:
        """The run that the caller asked for with an idempotency key. Raises KeyReusedError."""
        async with self._database.read() as connection:
            return await _of_key(connection, caller, key, request)

    @whole
    async def find(self, run_id: str) -> Run | None:
        """The run of that id."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(operation_runs).where(operation_runs.c.id == run_id))).first()
            return None if row is None else await _whole_run(connection, row)

    @whole
    async def history(self, run_id: str) -> list[Note]:
        """What happened, in order."""
        columns = operation_history.c
        query = select(columns.at, columns.identity, columns.text).where(columns.run_id == run_id)
        async with self._database.read() as connection:
            return [Note(*row) for row in await connection.execute(query.order_by(columns.number))]

    @whole
    async def page(self, page: Page) -> tuple[list[Run], bool] | None:
        """One page of all runs and whether more follow; None if `after` names none."""
        columns = operation_runs.c
        place = tuple_(columns.created_at, columns.id)
        query = select(operation_runs)
        async with self._database.read() as connection:
            if page.after is not None:
                cursor = select(columns.created_at, columns.id).where(columns.id == page.after)
                last = (await connection.execute(cursor)).first()
                if last is None:
                    return None
                query = query.where(place < tuple(last) if page.newest_first else place > tuple(last))
            order = [one.desc() if page.newest_first else one for one in (columns.created_at, columns.id)]
            rows = (await connection.execute(query.order_by(*order).limit(page.limit + 1))).all()
            runs = [await _whole_run(connection, row) for row in rows[: page.limit]]
        return runs, len(rows) > page.limit

    @whole
    async def ask_cancel(self, run_id: str) -> None:
        """Ask for the end of a run; one that has ended stays as it is, one that waits for its turn ends at once."""
        columns = operation_runs.c
        mine = and_(columns.id == run_id, columns.status.in_(_UNFINISHED))
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            await connection.execute(update(operation_runs).where(mine).values(cancel_asked=True))
            waits = and_(mine, columns.started_at.is_(None), columns.lease_until < now)
            ended = {"status": RunStatus.CANCELLED.value, "ended_at": now}
            if (await connection.execute(update(operation_runs).where(waits).values(ended))).rowcount:
                await self._drop_steps(connection, run_id, now)

    async def _drop_steps(self, connection: AsyncConnection, run_id: str, now: float) -> None:
        columns = operation_steps.c
        query = select(columns.number, columns.state).where(columns.run_id == run_id)
        why = "the run was cancelled before its turn"
        for number, state in (await connection.execute(query)).all():
            step = msgspec.structs.replace(_STEP.decode(state), phase=Phase.CANCELLED, detail=why, ended_at=now)
            one = and_(columns.run_id == run_id, columns.number == number)
            await connection.execute(
                update(operation_steps).where(one).values(state=msgspec.json.encode(step).decode())
            )
        await _note(connection, run_id, [Note(now, "", f"cancelled: {why}")])

    # ------------------------------------------------------------------------------------------------- the holder

    @whole
    async def claim(self) -> RunClaim | None:
        """A run whose turn it is, and that nobody holds."""
        columns = operation_runs.c
        query = select(operation_runs).where(columns.status.in_(_UNFINISHED)).order_by(columns.created_at, columns.id)
        async with self._database.read() as connection:
            if not await connection.scalar(_count_of_unfinished()):
                return None  # nearly always, and without a lock
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            rows = (await connection.execute(query)).all()
            by_id = {row.id: row for row in rows}
            runs = in_turn([await _whole_run(connection, row) for row in rows])
            for run in runs:
                row = by_id[run.id]
                if row.lease_until >= now:
                    continue
                values = {"fence": row.fence + 1, "owner": self._owner, "lease_until": now + self._lease_seconds}
                free = and_(columns.id == run.id, columns.fence == row.fence)
                if (await connection.execute(update(operation_runs).where(free).values(values))).rowcount:
                    return RunClaim(run, row.fence + 1, resumed=row.started_at is not None)
        return None

    @whole
    async def renew(self, claim: RunClaim) -> bool:
        """Hold on; whether the run's end was asked for. Raises LeaseLostError."""
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            await _hold(connection, claim, {"lease_until": now + self._lease_seconds})
            query = select(operation_runs.c.cancel_asked).where(operation_runs.c.id == claim.run.id)
            return bool(await connection.scalar(query))

    @whole
    async def release(self, claim: RunClaim) -> None:
        """Let others have it at once. Raises LeaseLostError."""
        async with self._database.write() as connection:
            await _hold(connection, claim, {"lease_until": 0.0})

    @whole
    async def save(self, claim: RunClaim, run: Run, changed: Sequence[int], notes: Sequence[Note]) -> None:
        """Store the run's state, the steps of these numbers, and what happened. Raises LeaseLostError."""
        values: dict[str, Any] = {
            "status": run.status.value, "started_at": run.started_at, "ended_at": run.ended_at, "detail": run.detail,
        }  # fmt: skip
        if run.status in RUN_ENDED:
            values["lease_until"] = 0.0
        async with self._database.write() as connection:
            await _hold(connection, claim, values)
            for number in changed:
                mine = and_(operation_steps.c.run_id == run.id, operation_steps.c.number == number)
                state = msgspec.json.encode(run.steps[number]).decode()
                await connection.execute(update(operation_steps).where(mine).values(state=state))
            await _note(connection, run.id, notes)

    @whole
    async def forget_ended(self, before: float, keep: int) -> int:
        """Remove runs that ended before a time, or have `keep` younger ones; how many."""
        columns = operation_runs.c
        ended = columns.status.not_in(_UNFINISHED)
        async with self._database.write() as connection:
            beyond = select(columns.created_at).where(ended).order_by(columns.created_at.desc()).offset(keep).limit(1)
            oldest_kept = await connection.scalar(beyond)
            old = columns.ended_at < before
            if oldest_kept is not None:
                old = old | (columns.created_at <= oldest_kept)
            return (await connection.execute(delete(operation_runs).where(ended, old))).rowcount


async def _of_key(connection: AsyncConnection, caller: str, key: str, request: str) -> Run | None:
    mine = and_(operation_runs.c.caller == caller, operation_runs.c.idempotency_key == key)
    row = (await connection.execute(select(operation_runs).where(mine))).first()
    if row is None:
        return None
    if row.request != request:
        raise KeyReusedError
    return await _whole_run(connection, row)


def _count_of_unfinished() -> Any:
    return select(func.count()).select_from(operation_runs).where(operation_runs.c.status.in_(_UNFINISHED))


async def _hold(connection: AsyncConnection, claim: RunClaim, values: Mapping[str, Any]) -> None:
    """The first statement of every change by the holder: it locks the row, and fails if the lease was lost."""
    mine = and_(
        operation_runs.c.id == claim.run.id, operation_runs.c.fence == claim.fence,
        operation_runs.c.status.in_(_UNFINISHED),
    )  # fmt: skip
    if not (await connection.execute(update(operation_runs).where(mine).values(values))).rowcount:
        raise LeaseLostError


async def _note(connection: AsyncConnection, run_id: str, notes: Sequence[Note]) -> None:
    if not notes:
        return
    columns = operation_history.c
    count = await connection.scalar(select(func.count()).where(columns.run_id == run_id))
    rows = [
        {"run_id": run_id, "number": number, "at": note.at, "identity": note.identity, "text": note.text[:MAX_TEXT]}
        for number, note in enumerate(notes, count or 0)
        if number < MAX_NOTES
    ]
    if rows:
        await connection.execute(insert(operation_history), rows)


async def _whole_run(connection: AsyncConnection, row: Row[Any]) -> Run:
    columns = operation_steps.c
    query = select(columns.state).where(columns.run_id == row.id).order_by(columns.number)
    steps = tuple(_STEP.decode(state) for (state,) in await connection.execute(query))
    return Run(
        row.id, _SPEC.decode(row.spec), steps, RunStatus(row.status), row.created_at, row.caller, row.started_at,
        row.ended_at, row.cancel_asked, row.detail,
    )  # fmt: skip
