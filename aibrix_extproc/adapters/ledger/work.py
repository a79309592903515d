"""The work of batches: fenced leases, results that are committed once, and the end of a batch.

A lease is held on a row, until a time of the database's clock. Taking it adds one to the row's fence. A later change by
the holder begins with an update that is conditional on the fence; if that changes no row, the lease was lost and
LeaseLostError says so. Two holders therefore never both write, however late one of them wakes up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, and_, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.batches import BATCH_COLUMNS, batch_of
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import add_file, unreferenced
from aibrix_extproc.adapters.ledger.schema import batch_inputs, batch_segments, batch_shards, batches
from aibrix_extproc.adapters.ledger.turns import RUNNING, candidates, enqueued_tokens, running_shards, served
from aibrix_extproc.adapters.ledger.whole import whole
from aibrix_extproc.core.access.limits.enqueued import EnqueuedLimit
from aibrix_extproc.core.batches.fairness import Candidate, Kind, in_turn
from aibrix_extproc.core.batches.lifecycle import STAMPS, BatchStatus, sources_of
from aibrix_extproc.core.batches.records import BatchRecord, Usage
from aibrix_extproc.core.batches.validation import Shard
from aibrix_extproc.core.files.records import FileRecord, Segment


class TooManyTokensError(Exception):
    """A limit on enqueued tokens would be exceeded."""

    def __init__(self, limit: EnqueuedLimit) -> None:
        super().__init__()
        self.limit = limit


class LeaseLostError(Exception):
    """Somebody else holds the row now, or it has ended: stop, and write nothing."""


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """A batch whose validation or end this process holds."""

    batch: BatchRecord
    fence: int


@dataclass(frozen=True, slots=True)
class ShardClaim:
    """A shard whose lines this process runs."""

    batch: BatchRecord
    shard: Shard
    fence: int


@dataclass(frozen=True, slots=True)
class Size:
    """How much a batch asks for; tokens are those of the prompts, estimated."""

    requests: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Progress:
    """What a segment of results adds to its batch."""

    completed: int
    failed: int
    usage: Usage


class WorkLedger:
    """Hands out work and takes results."""

    def __init__(self, database: Database, owner: str, lease_seconds: float) -> None:
        """`owner` names this process in the rows it holds, for people. What a dead one held is free after the lease."""
        self._database = database
        self._owner = owner
        self._lease_seconds = lease_seconds

    # ------------------------------------------------------------------------------------------------- leases

    @whole
    async def claim_new(self) -> BatchClaim | None:
        """A batch that waits for its validation."""
        return await self._claim_batch(batches.c.status == BatchStatus.VALIDATING.value)

    @whole
    async def claim_ended(self) -> BatchClaim | None:
        """A batch of which every shard is done, or that was cancelled before it had any."""
        undone = exists().where(batch_shards.c.batch_id == batches.c.id, ~batch_shards.c.done)
        states = (*RUNNING, BatchStatus.FINALIZING.value)
        return await self._claim_batch(and_(batches.c.status.in_(states), ~undone))

    async def _claim_batch(self, condition: Any) -> BatchClaim | None:
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            query = select(batches).where(condition, batches.c.lease_until < now).order_by(batches.c.created_at)
            row = (await connection.execute(query.limit(1).with_for_update(skip_locked=True))).first()
            if row is None:
                return None
            await self._take(connection, batches, batches.c.id == row.id, now)
            return BatchClaim(batch_of(row), row.fence + 1)

    @whole
    async def claim_shard(self, *, cancelled: bool = False, without: Sequence[Kind] = ()) -> ShardClaim | None:
        """A shard that may run, of the batch whose turn it is; with `cancelled` only of those that were cancelled."""
        states = (BatchStatus.CANCELLING.value,) if cancelled else RUNNING
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            found = await candidates(connection, now, states, without)
            for one in in_turn(found, await running_shards(connection, now)) if found else ():
                claim = await self._claim_of(connection, one, now)
                if claim is not None:
                    return claim
            return None

    async def _claim_of(self, connection: AsyncConnection, turn: Candidate, now: float) -> ShardClaim | None:
        columns = batch_shards.c
        free = and_(columns.batch_id == turn.batch, ~columns.done, columns.lease_until < now)
        query = select(batch_shards).where(free).order_by(columns.number).limit(1).with_for_update(skip_locked=True)
        row = (await connection.execute(query)).first()
        if row is None:
            return None  # another process is just taking it
        await self._take(connection, batch_shards, _shard_row(row.batch_id, row.number), now)
        await served(connection, turn, now)
        shard = Shard(row.number, row.start, row.end, row.first_line, row.lines)
        found = select(*BATCH_COLUMNS).where(batches.c.id == row.batch_id)
        return ShardClaim(batch_of((await connection.execute(found)).one()), shard, row.fence + 1)

    async def _take(self, connection: AsyncConnection, table: Table, which: Any, now: float) -> None:
        values = {"fence": table.c.fence + 1, "owner": self._owner, "lease_until": now + self._lease_seconds}
        await connection.execute(update(table).where(which).values(values))

    @whole
    async def renew(self, claim: BatchClaim | ShardClaim) -> BatchStatus:
        """Hold on; the status that the batch has now. Raises LeaseLostError."""
        async with self._database.write() as connection:
            now = await self._database.now(connection)
            await self._hold(connection, claim, lease_until=now + self._lease_seconds)
            query = select(batches.c.status).where(batches.c.id == claim.batch.id)
            return BatchStatus((await connection.execute(query)).scalar_one())

    @whole
    async def release(self, claim: BatchClaim | ShardClaim) -> None:
        """Let others have it at once. Raises LeaseLostError."""
        async with self._database.write() as connection:
            await self._hold(connection, claim, lease_until=0.0)

    async def _hold(self, connection: AsyncConnection, claim: BatchClaim | ShardClaim, **values: Any) -> None:
        """The first statement of every change: it locks the row, and fails if the lease was lost."""
        table, which = _row_of(claim)
        values = values or {"fence": claim.fence}
        change = update(table).where(which, table.c.fence == claim.fence).values(values)
        if not (await connection.execute(change)).rowcount:
            raise LeaseLostError

    # ------------------------------------------------------------------------------------------------- content

    @whole
    async def content(self, batch_id: str) -> list[Segment]:
        """The input that a batch works on."""
        columns = batch_inputs.c
        query = select(columns.blob, columns.size).where(columns.batch_id == batch_id).order_by(columns.number)
        return [Segment(row.blob, row.size) for row in await self._database.rows(query)]

    @whole
    async def segments(self, claim: ShardClaim) -> list[Segment]:
        """The committed results of a shard."""
        columns = batch_segments.c
        mine = and_(columns.batch_id == claim.batch.id, columns.shard == claim.shard.number)
        query = select(columns.blob, columns.size).where(mine).order_by(columns.number)
        return [Segment(row.blob, row.size) for row in await self._database.rows(query)]

    # ------------------------------------------------------------------------------------------------- steps

    @whole
    async def start(
        self, claim: BatchClaim, model: str, shards: Sequence[Shard], size: Size, limits: Sequence[EnqueuedLimit]
    ) -> None:
        """The input is valid: its shards may run.

        Raises LeaseLostError, also if the batch was cancelled; TooManyTokensError if a limit would be exceeded.
        """
        rows = [
            {"batch_id": claim.batch.id, "number": one.number, "start": one.start, "end": one.end,
             "first_line": one.first_line, "lines": one.lines}
            for one in shards
        ]  # fmt: skip
        values = {"model": model, "total": size.requests, "enqueued_tokens": size.tokens}
        async with self._database.write() as connection:
            await self._become(connection, claim, BatchStatus.IN_PROGRESS, **values)
            if limits and not self._database.is_sqlite:  # one after the other, so that two batches see each other
                await connection.execute(select(func.pg_advisory_xact_lock(0x746F6B65)))  # "toke"
            for limit in limits:
                if await enqueued_tokens(connection, limit) > limit.tokens:
                    raise TooManyTokensError(limit)
            await connection.execute(insert(batch_shards), rows)

    @whole
    async def fail(self, claim: BatchClaim, errors: str) -> list[str]:
        """The input is not valid; the blobs that nothing refers to any more. Raises LeaseLostError."""
        async with self._database.write() as connection:
            await self._become(connection, claim, BatchStatus.FAILED, errors=errors)
            return await forget_work(connection, claim.batch.id)

    @whole
    async def abandon(self, claim: BatchClaim | ShardClaim, errors: str) -> list[str]:
        """The batch's content is lost: end it; the blobs that nothing refers to. Raises LeaseLostError."""
        mine = batches.c.id == claim.batch.id
        async with self._database.write() as connection:
            await self._hold(connection, claim)
            now = int(await self._database.now(connection))
            for status in (BatchStatus.FAILED, BatchStatus.CANCELLED):
                values = {"status": status.value, STAMPS[status]: now, "errors": errors}
                change = update(batches).where(mine, batches.c.status.in_(sources_of(status)))
                await connection.execute(change.values(values))
            return await forget_work(connection, claim.batch.id)

    async def _become(self, connection: AsyncConnection, claim: BatchClaim, status: BatchStatus, **values: Any) -> None:
        now = int(await self._database.now(connection))
        sources = [source.value for source in sources_of(status)]
        change = update(batches).where(
            batches.c.id == claim.batch.id, batches.c.fence == claim.fence, batches.c.status.in_(sources)
        )
        values = {"status": status.value, STAMPS[status]: now, "lease_until": 0.0, **values}
        if not (await connection.execute(change.values(values))).rowcount:
            raise LeaseLostError

    @whole
    async def commit(self, claim: ShardClaim, segment: Segment, progress: Progress) -> None:
        """Results that are stored in a blob become part of the batch. Raises LeaseLostError."""
        counted = {
            "completed": batches.c.completed + progress.completed,
            "failed": batches.c.failed + progress.failed,
            "input_tokens": batches.c.input_tokens + progress.usage.input_tokens,
            "cached_tokens": batches.c.cached_tokens + progress.usage.cached_tokens,
            "output_tokens": batches.c.output_tokens + progress.usage.output_tokens,
            "reasoning_tokens": batches.c.reasoning_tokens + progress.usage.reasoning_tokens,
        }
        columns = batch_segments.c
        mine = and_(columns.batch_id == claim.batch.id, columns.shard == claim.shard.number)
        async with self._database.write() as connection:
            await self._hold(connection, claim)
            if (await connection.execute(select(columns.number).where(columns.blob == segment.blob))).first():
                return  # the connection broke after the commit, and this is the second try
            number = (await connection.execute(select(func.count()).where(mine))).scalar_one()
            await connection.execute(
                insert(batch_segments).values(
                    batch_id=claim.batch.id, shard=claim.shard.number, number=number, blob=segment.blob,
                    size=segment.size,
                )
            )  # fmt: skip
            await connection.execute(update(batches).where(batches.c.id == claim.batch.id).values(counted))

    @whole
    async def finish(self, claim: ShardClaim, output: Segment | None, error: Segment | None) -> list[str]:
        """Every line has its result, in order, in these blobs; the segments' blobs. Raises LeaseLostError."""
        values = {
            "done": True, "lease_until": 0.0,
            "output_blob": output.blob if output else None, "output_size": output.size if output else 0,
            "error_blob": error.blob if error else None, "error_size": error.size if error else 0,
        }  # fmt: skip
        columns = batch_segments.c
        mine = and_(columns.batch_id == claim.batch.id, columns.shard == claim.shard.number)
        async with self._database.write() as connection:
            await self._hold(connection, claim, **values)
            blobs = [row.blob for row in await connection.execute(select(columns.blob).where(mine))]
            await connection.execute(delete(batch_segments).where(mine))
            return await unreferenced(connection, blobs)

    @whole
    async def results(self, batch_id: str) -> tuple[list[Segment], list[Segment]]:
        """The contents of the output and the error file, from the shards that are done."""
        columns = batch_shards.c
        query = select(batch_shards).where(columns.batch_id == batch_id).order_by(columns.number)
        rows = await self._database.rows(query)
        output = [Segment(row.output_blob, row.output_size) for row in rows if row.output_blob is not None]
        return output, [Segment(row.error_blob, row.error_size) for row in rows if row.error_blob is not None]

    @whole
    async def finalize(self, claim: BatchClaim) -> None:
        """Every shard is done: what is left is to make the files. Raises LeaseLostError."""
        if claim.batch.status is BatchStatus.IN_PROGRESS:
            now_held = {"lease_until": batches.c.lease_until}
            async with self._database.write() as connection:
                await self._become(connection, claim, BatchStatus.FINALIZING, **now_held)

    @whole
    async def end(
        self, claim: BatchClaim, status: BatchStatus, files: Sequence[tuple[str, FileRecord, Sequence[Segment]]]
    ) -> list[str]:
        """The batch ends with its files, all at once; the blobs that nothing refers to. Raises LeaseLostError.

        `files` are columns of the batch (`output_file_id`, `error_file_id`), records and contents.
        """
        ids = {column: record.id for column, record, _ in files}
        async with self._database.write() as connection:
            await self._become(connection, claim, status, **ids)
            for _, record, content in files:
                await add_file(connection, record, content, None)
            return await forget_work(connection, claim.batch.id)


def _row_of(claim: BatchClaim | ShardClaim) -> tuple[Table, Any]:
    if isinstance(claim, BatchClaim):
        return batches, batches.c.id == claim.batch.id
    return batch_shards, and_(_shard_row(claim.batch.id, claim.shard.number), ~batch_shards.c.done)


def _shard_row(batch_id: str, number: int) -> Any:
    return and_(batch_shards.c.batch_id == batch_id, batch_shards.c.number == number)


async def forget_work(connection: AsyncConnection, batch_id: str) -> list[str]:
    """Remove what only a running batch needs; the blobs that nothing else refers to."""
    blobs: set[str] = set()
    for table, names in (
        (batch_segments, ("blob",)), (batch_shards, ("output_blob", "error_blob")), (batch_inputs, ("blob",)),
    ):  # fmt: skip
        mine = table.c.batch_id == batch_id
        rows = await connection.execute(select(*(table.c[name] for name in names)).where(mine))
        blobs.update(blob for row in rows for blob in row if blob is not None)
        await connection.execute(delete(table).where(mine))
    return await unreferenced(connection, sorted(blobs))
