"""The cell that holds the fleet: who hears of what, and when it counts as known."""

import asyncio

from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, Snapshot
from aibrix_extproc.core.fleet.reduce import Listed, Observed

ENDPOINT = Endpoint(identity="e1", address="10.0.0.1:8000")


def test_store_before_any_listing_is_unknown_and_empty() -> None:
    store = FleetStore(["file"])
    assert not store.known
    assert store.snapshot.endpoints == ()


async def test_waiter_for_a_known_fleet_wakes_after_the_first_poll_of_the_last_endpoint() -> None:
    store = FleetStore(["file"])
    waiter = asyncio.ensure_future(store.wait_known())
    store.apply(Listed("file", (ENDPOINT,)))
    await asyncio.sleep(0)
    assert not waiter.done()
    store.apply(Observed("e1", Health.READY, models=(ServedModel("chat-m"),)))
    snapshot = await asyncio.wait_for(waiter, 60)
    assert snapshot is store.snapshot
    assert set(snapshot.ready_by_model) == {"chat-m"}


def test_subscriber_hears_of_differences_only_and_of_nothing_after_it_ended() -> None:
    store = FleetStore(["file"])
    heard: list[Snapshot] = []
    end = store.subscribe(heard.append)
    store.apply(Listed("file", (ENDPOINT,)))
    store.apply(Listed("file", (ENDPOINT,)))
    store.apply(Observed("e1", Health.READY))
    assert [snapshot.version for snapshot in heard] == [1, 2]
    assert heard[-1] is store.snapshot
    end()
    end()
    store.apply(Listed("file", ()))
    assert len(heard) == 2


def test_reader_keeps_the_snapshot_that_it_started_with() -> None:
    store = FleetStore(["file"])
    store.apply(Listed("file", (ENDPOINT,)))
    kept = store.snapshot
    store.apply(Listed("file", ()))
    assert [endpoint.identity for endpoint in kept.endpoints] == ["e1"]
    assert store.snapshot.endpoints == ()
