"""What a worker asks before it takes a shard: whose turn it is, and how much a caller has enqueued."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aibrix_extproc.adapters.ledger.schema import batch_shards, batches, storage
from aibrix_extproc.core.access.limits.enqueued import EnqueuedLimit
from aibrix_extproc.core.batches.fairness import Candidate, Kind
from aibrix_extproc.core.batches.lifecycle import BatchStatus

RUNNING: Final = (BatchStatus.IN_PROGRESS.value, BatchStatus.CANCELLING.value)
_LOOKED_AT: Final = 1000  # batches at a time, those that have waited longest


async def candidates(
    connection: AsyncConnection, now: float, states: Sequence[str], without: Sequence[Kind] = ()
) -> list[Candidate]:
    """The batches in these states, but none of some kinds, of which a shard is free."""
    mine = batch_shards.c.batch_id == batches.c.id
    free = exists().where(mine, ~batch_shards.c.done, batch_shards.c.lease_until < now)
    wanted = [batches.c.status.in_(states), free]
    if without:
        kind = tuple_(batches.c.caller, func.coalesce(batches.c.model, ""))
        wanted.append(kind.not_in([(one.caller, one.model) for one in without]))
    columns = (batches.c.id, batches.c.caller, batches.c.created_at, batches.c.served_at)
    query = (
        select(*columns, func.coalesce(storage.c.served_at, 0.0).label("caller_served_at"))
        .join(storage, storage.c.caller == batches.c.caller, isouter=True)
        .where(*wanted)
        .order_by(batches.c.served_at)
        .limit(_LOOKED_AT)
    )
    rows = await connection.execute(query)
    return [Candidate(row.id, row.caller, row.created_at, row.served_at, row.caller_served_at) for row in rows]


async def running_shards(connection: AsyncConnection, now: float) -> dict[tuple[str, str], int]:
    """How many shards run in all processes, by caller and batch."""
    held = and_(~batch_shards.c.done, batch_shards.c.lease_until >= now)
    names = (batches.c.caller, batches.c.id)
    query = select(*names, func.count().label("count")).join(batch_shards, batch_shards.c.batch_id == batches.c.id)
    rows = await connection.execute(query.where(held).group_by(*names))
    return {(row.caller, row.id): row[2] for row in rows}


async def served(connection: AsyncConnection, turn: Candidate, now: float) -> None:
    """It was this batch's turn, and its caller's."""
    await connection.execute(update(batches).where(batches.c.id == turn.batch).values(served_at=now))
    await connection.execute(update(storage).where(storage.c.caller == turn.caller).values(served_at=now))


async def enqueued_tokens(connection: AsyncConnection, limit: EnqueuedLimit) -> int:
    """Tokens of the limit's batches that have not ended."""
    mine: list[ColumnElement[bool]] = [batches.c.status.in_((*RUNNING, BatchStatus.FINALIZING.value))]
    if limit.caller is not None:
        mine.append(batches.c.caller == limit.caller)
    if limit.model is not None:
        mine.append(batches.c.model == limit.model)
    total = select(func.coalesce(func.sum(batches.c.enqueued_tokens), 0)).where(and_(*mine))
    return int((await connection.execute(total)).scalar_one())
