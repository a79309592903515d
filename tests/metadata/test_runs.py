"""Operation runs on the real databases: one holder at a time, one run for an idempotency key, a bounded history."""

import pytest
from msgspec.structs import replace

from aibrix_extproc.adapters.ledger import runs as ledger_of_runs
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.runs import KeyReusedError, RunClaim, RunLedger, TooManyRunsError
from aibrix_extproc.adapters.ledger.work import LeaseLostError
from aibrix_extproc.core.openai.contract.paging import Page
from aibrix_extproc.core.operations.records import Ask, Note, Phase, Run, RunSpec, RunStatus, Step, Target


def a_run(name: str, *endpoints: str, model: str = "m") -> Run:
    steps = tuple(Step(one, f"{one}:8000", one, (model,)) for one in endpoints or (name,))
    return Run(name, RunSpec((Ask("sleep", {"level": 1}),), Target(model)), steps, created_by="root")


def ended(run: Run) -> Run:
    return replace(run, status=RunStatus.SUCCEEDED, ended_at=5.0)


async def claimed(ledger: RunLedger) -> RunClaim:
    claim = await ledger.claim()
    assert claim is not None
    return claim


async def test_a_run_is_held_by_one_process_and_taken_over_after_its_lease(database: Database) -> None:
    one, other = RunLedger(database, "one", 60.0), RunLedger(database, "other", 60.0)
    added = await one.add(a_run("r1"), None, "h")
    first = await claimed(one)
    assert first.run == added
    assert not first.resumed
    assert await other.claim() is None
    step = replace(added.steps[0], phase=Phase.DRAINING, deadline=7.0)
    begun = replace(added, status=RunStatus.RUNNING, started_at=3.0, steps=(step,))
    await one.save(first, begun, [0], [Note(3.0, "r1", "draining")])
    await one.release(first)
    second = await claimed(other)
    assert second.resumed
    assert second.run == begun
    with pytest.raises(LeaseLostError):
        await one.save(first, ended(begun), [], [])
    with pytest.raises(LeaseLostError):
        await one.renew(first)
    assert not await other.renew(second)
    await other.ask_cancel("r1")
    assert await other.renew(second)
    await other.save(second, ended(begun), [], [Note(5.0, "", "succeeded")])
    assert [note.text for note in await other.history("r1")] == ["draining", "succeeded"]
    assert await other.claim() is None
    with pytest.raises(LeaseLostError):
        await other.renew(second)


async def test_runs_of_one_model_take_turns(database: Database) -> None:
    ledger = RunLedger(database, "one", 60.0)
    for run in (a_run("r1", "e1"), a_run("r2", "e2"), a_run("r3", "e3", model="n")):
        await ledger.add(run, None, "h")
    first, second = await claimed(ledger), await claimed(ledger)
    assert [first.run.id, second.run.id] == ["r1", "r3"]
    assert await ledger.claim() is None
    await ledger.save(first, ended(first.run), [], [])
    assert (await claimed(ledger)).run.id == "r2"


async def test_ops_17_an_idempotency_key_makes_one_run(database: Database) -> None:
    ledger = RunLedger(database, "one", 60.0)
    first = await ledger.add(a_run("r1"), "key", "h")
    assert await ledger.add(a_run("r2"), "key", "h") == first
    with pytest.raises(KeyReusedError):
        await ledger.add(a_run("r3"), "key", "another")
    assert (await ledger.add(replace(a_run("r4"), created_by="somebody else"), "key", "h")).id == "r4"


async def test_runs_that_have_not_ended_are_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_of_runs, "MAX_UNFINISHED", 2)
    ledger = RunLedger(database, "one", 60.0)
    await ledger.add(a_run("r1"), None, "h")
    await ledger.add(a_run("r2"), None, "h")
    with pytest.raises(TooManyRunsError):
        await ledger.add(a_run("r3"), None, "h")


async def test_pages_and_retention(database: Database) -> None:
    ledger = RunLedger(database, "one", 60.0)
    for number in range(5):
        await ledger.add(a_run(f"r{number}", model=f"m{number}"), None, "h")
        claim = await claimed(ledger)
        if number < 4:
            await ledger.save(claim, ended(claim.run), [], [Note(1.0, "", "x")])
    found = await ledger.page(Page(2, True, "r3"))
    assert found is not None
    assert [run.id for run in found[0]] == ["r2", "r1"]
    assert found[1]
    assert await ledger.page(Page(2, True, "nobody")) is None
    assert await ledger.forget_ended(0.0, keep=2) == 2
    left = await ledger.page(Page(9, False, None))
    assert left is not None
    assert [run.id for run in left[0]] == ["r2", "r3", "r4"]
    assert await ledger.forget_ended(6.0, keep=9) == 2
    assert await ledger.history("r2") == []


async def test_a_run_that_waits_for_its_turn_is_cancelled_at_once(database: Database) -> None:
    ledger = RunLedger(database, "one", 60.0)
    await ledger.add(a_run("r1"), None, "h")
    await ledger.add(a_run("r2"), None, "h")
    first = await claimed(ledger)
    await ledger.ask_cancel("r1")
    await ledger.ask_cancel("r2")
    held, waiting = await ledger.find("r1"), await ledger.find("r2")
    assert held is not None
    assert waiting is not None
    assert (held.status, held.cancel_asked) == (RunStatus.QUEUED, True)
    assert (waiting.status, waiting.steps[0].phase) == (RunStatus.CANCELLED, Phase.CANCELLED)
    await ledger.save(first, ended(first.run), [], [])
    assert await ledger.claim() is None
