"""Who gets the next shard, on the real databases."""

from aibrix_extproc.adapters.ledger.batches import BatchLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import Quota
from aibrix_extproc.adapters.ledger.work import ShardClaim, Size, WorkLedger
from aibrix_extproc.core.batches.lifecycle import BatchStatus
from aibrix_extproc.core.batches.records import BatchRecord
from aibrix_extproc.core.batches.validation import Shard
from aibrix_extproc.core.files.records import FileRecord

SHARDS = 4
QUOTA = Quota(10, 10, 10, 10)


async def enqueue(database: Database, caller: str, *names: str) -> None:
    """Batches of some shards each, ready to run."""
    file = FileRecord(f"file-{caller}", caller, "batch", "in.jsonl", 1, "", 1, None)
    await FileLedger(database, QUOTA).add(file, [])
    work = WorkLedger(database, "validator", 60.0)
    for name in names:
        record = BatchRecord(name, caller, "/v1/x", file.id, "24h", BatchStatus.VALIDATING, 1, 2**40)
        await BatchLedger(database, QUOTA).add(record, [])
        claim = await work.claim_new()
        assert claim is not None
        shards = [Shard(number, 0, 1, 1, 1) for number in range(SHARDS)]
        await work.start(claim, "m", shards, Size(SHARDS, 1), ())


async def claimed(work: WorkLedger) -> ShardClaim:
    found = await work.claim_shard()
    assert found is not None
    return found


async def test_caller_with_one_batch_gets_every_second_shard_beside_one_with_three(database: Database) -> None:
    await enqueue(database, "alice", "a1", "a2", "a3")
    await enqueue(database, "bob", "b1")
    workers = [WorkLedger(database, name, 60.0) for name in ("one", "other")]
    taken = [(await claimed(workers[number % 2])).batch for number in range(2 * SHARDS)]
    assert [one.caller for one in taken].count("bob") == SHARDS
    assert [one.caller for one in taken[::2]] in (["alice"] * SHARDS, ["bob"] * SHARDS)
    mine = [one.id for one in taken if one.caller == "alice"]
    assert sorted(mine[:3]) == ["a1", "a2", "a3"]


async def test_turn_goes_on_when_a_shard_is_done_at_once(database: Database) -> None:
    """One worker, one shard at a time: nobody is served twice while another one waits."""
    await enqueue(database, "alice", "a1", "a2")
    await enqueue(database, "bob", "b1")
    await enqueue(database, "carol", "c1")
    work = WorkLedger(database, "one", 60.0)
    callers = []
    for _ in range(6):
        claim = await claimed(work)
        await work.finish(claim, None, None)
        callers.append(claim.batch.caller)
    assert callers[:3] == callers[3:]
    assert sorted(callers[:3]) == ["alice", "bob", "carol"]


async def test_all_shards_are_handed_out_once(database: Database) -> None:
    await enqueue(database, "alice", "a1", "a2")
    work = WorkLedger(database, "one", 60.0)
    taken = {(claim.batch.id, claim.shard.number) for claim in [await claimed(work) for _ in range(2 * SHARDS)]}
    assert len(taken) == 2 * SHARDS
    assert await work.claim_shard() is None
