"""Work on engines in the real databases: one holder, fenced writes, one demand however many ask."""

import asyncio

import pytest

from aibrix_extproc.adapters.ledger.adapter_states import AdapterStates
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.demands import DemandLedger
from aibrix_extproc.adapters.ledger.named_leases import NamedLease, NamedLeases
from aibrix_extproc.adapters.ledger.work import LeaseLostError
from aibrix_extproc.core.operations.placed import AdapterState, State, wait_seconds


async def claimed(leases: NamedLeases) -> NamedLease:
    lease = await leases.claim("reconciler")
    assert lease is not None
    return lease


async def test_one_process_holds_a_lease_and_a_late_one_writes_nothing(database: Database) -> None:
    one, other = NamedLeases(database, "one", 60.0), NamedLeases(database, "other", 60.0)
    states = AdapterStates(database)
    first = await claimed(one)
    assert await other.claim("reconciler") is None
    loaded = AdapterState("sql", "e1", "127.0.0.1:1", State.LOADED, path="/a", listed="/a")
    await states.write(first, [loaded])
    await one.release(first)
    second = await claimed(other)
    assert second.fence == first.fence + 1
    for late in (one.renew(first), states.write(first, [], [("sql", "e1")])):
        with pytest.raises(LeaseLostError):
            await late
    assert await states.all("sql") == [loaded]
    await other.renew(second)
    await states.write(second, [], [("sql", "e1")])
    assert await states.all() == []


async def test_of_many_that_claim_at_once_one_gets_the_lease(database: Database) -> None:
    many = [NamedLeases(database, str(number), 60.0) for number in range(6)]
    found = await asyncio.gather(*(one.claim("reconciler") for one in many))
    assert sum(one is not None for one in found) == 1


async def test_many_requests_make_one_demand(database: Database) -> None:
    ledger = DemandLedger(database)
    asked = await asyncio.gather(*(ledger.ask("llama") for _ in range(8)))
    assert len({one.first_at for one in asked}) == 1
    assert [(one.model, one.took_seconds) for one in await ledger.open(30.0)] == [("llama", None)]
    await ledger.meet("llama")
    assert await ledger.open(30.0) == []
    again = await ledger.ask("llama")
    assert again.took_seconds is not None
    assert again.first_at > asked[0].first_at
    assert await ledger.open(-1.0) == []
    await ledger.forget(-1.0)
    assert (await ledger.ask("llama")).took_seconds is None


def test_waits_grow_and_are_bounded() -> None:
    waits = [wait_seconds(failures) for failures in range(1, 200)]
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (1.0, 60.0)
