"""Usage records in the ledger: each once, sums that follow, old ones forgotten."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import usage_records, usage_rollups
from aibrix_extproc.adapters.ledger.usage import UsageLedger
from aibrix_extproc.app.metadata.usage_inlet import UsageInlet
from aibrix_extproc.core.access.usage import UsageRecord, batch_of, encoded
from aibrix_extproc.core.access.usage_sums import DAY, HOUR
from aibrix_extproc.settings.usage import UsageSettings

NOW = 1_700_000_000
START = NOW - NOW % DAY


def a_record(number: int, at: int = NOW, **changed: Any) -> UsageRecord:
    values: dict[str, Any] = {
        "id": f"0a-{number}", "wall_at": at, "request_id": "r", "caller": "me", "key_id": "k", "model": "m",
        "operation": "chat_completion", "status": 200, "finish": "", "batch_id": "", "input_tokens": 10,
        "output_tokens": 3,
    }  # fmt: skip
    return UsageRecord(**values | changed)


async def sums(database: Database, width: int) -> list[tuple[Any, ...]]:
    columns = (usage_rollups.c[name] for name in ("start", "caller", "requests", "failed", "input_tokens"))
    query = select(*columns).where(usage_rollups.c.width == width).order_by("start", "caller")
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(query)]


async def stored(database: Database) -> set[str]:
    async with database.read() as connection:
        return set((await connection.execute(select(usage_records.c.id))).scalars())


async def test_record_counts_once_however_often_it_is_sent(database: Database) -> None:
    ledger = UsageLedger(database)
    batch = [a_record(1), a_record(2), a_record(2), a_record(3, caller="you", status=500, input_tokens=0)]
    assert [await ledger.add(batch), await ledger.add(batch), await ledger.add([])] == [3, 0, 0]
    assert await ledger.add([a_record(2), a_record(4)]) == 1
    assert await stored(database) == {"0a-1", "0a-2", "0a-3", "0a-4"}
    hour = NOW - NOW % HOUR
    assert await sums(database, HOUR) == [(hour, "me", 3, 0, 30), (hour, "you", 1, 1, 0)]
    assert await sums(database, DAY) == [(START, "me", 3, 0, 30), (START, "you", 1, 1, 0)]


async def test_replicas_that_send_the_same_at_once_count_it_once(database: Database) -> None:
    ledgers = [UsageLedger(database) for _ in range(4)]
    records = [a_record(number, caller=f"c{number % 3}") for number in range(40)]
    orders = [records, records[::-1], records[20:] + records[:20], records]
    added = await asyncio.gather(*(ledger.add(order) for ledger, order in zip(ledgers, orders, strict=True)))
    assert sum(added) == 40
    assert sum(row[2] for row in await sums(database, HOUR)) == 40


async def test_old_records_are_forgotten_and_their_sums_later(database: Database) -> None:
    ledger = UsageLedger(database)
    await ledger.add([a_record(1, START - DAY), a_record(2, START)])
    assert [await ledger.forget(START), await ledger.forget(START)] == [1, 0]
    assert await stored(database) == {"0a-2"}
    assert len(await sums(database, HOUR)) == len(await sums(database, DAY)) == 2
    assert await ledger.forget_sums(HOUR, START) == 1
    assert (len(await sums(database, HOUR)), len(await sums(database, DAY))) == (1, 2)


class Inlet:
    """An inlet with a clock and counts of its own."""

    def __init__(self, database: Database) -> None:
        self.counts: dict[str, int] = {}
        self.now = float(NOW)
        ledger = UsageLedger(database)
        self.inlet = UsageInlet(ledger, UsageSettings(), lambda: self.now, self._count)

    def _count(self, result: str, records: int) -> None:
        self.counts[result] = self.counts.get(result, 0) + records

    async def take(self, *records: UsageRecord) -> int:
        return (await self.inlet.take("replica", batch_of(map(encoded, records)))).status


async def test_records_of_a_wrong_clock_are_refused_and_counted(database: Database) -> None:
    own = Inlet(database)
    batch = a_record(1), a_record(2, NOW - 31 * DAY), a_record(3, NOW + 2 * DAY), a_record(4, NOW + 60)
    assert await own.take(*batch) == 200
    assert await own.take(a_record(1)) == 200
    assert own.counts == {"new": 2, "repeated": 1, "refused": 2}
    assert await stored(database) == {"0a-1", "0a-4"}


async def test_what_was_forgotten_does_not_count_again(database: Database) -> None:
    own = Inlet(database)
    await own.take(a_record(1))
    own.now += 31 * DAY
    assert await own.inlet.sweep() == 1
    await own.take(a_record(1))
    assert sum(row[2] for row in await sums(database, DAY)) == 1


@pytest.mark.parametrize("content", [b"[", b"{}", b'["i"]'])
async def test_what_no_gateway_sends_is_refused_for_good(database: Database, content: bytes) -> None:
    assert (await Inlet(database).inlet.take("replica", content)).status == 400


async def test_database_that_is_away_keeps_the_gateway_waiting(database: Database) -> None:
    own = Inlet(database)
    async with database.write() as connection:
        await connection.exec_driver_sql("ALTER TABLE usage_rollups RENAME TO away")
    assert await own.take(a_record(1)) == 503
    assert await stored(database) == set()
    async with database.write() as connection:
        await connection.exec_driver_sql("ALTER TABLE away RENAME TO usage_rollups")
    assert await own.take(a_record(1)) == 200
