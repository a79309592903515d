"""Control rows on both databases: versions in their order, conditions, unique keys, pages of changes."""

import asyncio

import pytest

from aibrix_extproc.adapters.ledger import control
from aibrix_extproc.adapters.ledger.control import ControlLedger, UniqueKeyTakenError, VersionConflictError
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.core.control.rows import MAX_DATA_BYTES, Row, Section


@pytest.fixture
def ledger(database: Database) -> ControlLedger:
    return ControlLedger(database)


def told(rows: tuple[Row, ...] | list[Row]) -> list[tuple[str, str, bytes | None]]:
    return [(row.section, row.id, None if row.data is None else bytes(row.data)) for row in rows]


async def test_a_record_is_stored_changed_and_removed(ledger: ControlLedger) -> None:
    first = await ledger.put(Section.LIMITS, "a", {"n": 1})
    second = await ledger.put(Section.LIMITS, "a", {"n": 2})
    assert (first.version, second.version) == (1, 2)
    assert await ledger.get(Section.LIMITS, "a") == second
    assert await ledger.get(Section.KEYS, "a") is None
    assert await ledger.delete(Section.LIMITS, "a") == second
    assert await ledger.delete(Section.LIMITS, "a") is None
    assert await ledger.get(Section.LIMITS, "a") is None


async def test_conditions_on_the_version(ledger: ControlLedger) -> None:
    made = await ledger.put(Section.LIMITS, "a", {}, expect_version=0)
    with pytest.raises(VersionConflictError) as found:
        await ledger.put(Section.LIMITS, "a", {}, expect_version=0)
    assert found.value.version == made.version
    with pytest.raises(VersionConflictError):
        await ledger.delete(Section.LIMITS, "a", expect_version=made.version + 1)
    await ledger.delete(Section.LIMITS, "a", expect_version=made.version)
    assert (await ledger.put(Section.LIMITS, "a", {}, expect_version=0)).version > made.version


async def test_a_unique_key_belongs_to_one_row_of_a_section(ledger: ControlLedger) -> None:
    await ledger.put(Section.KEYS, "a", {}, unique_key="hash")
    await ledger.put(Section.LIMITS, "a", {}, unique_key="hash")
    before = await ledger.version()
    with pytest.raises(UniqueKeyTakenError):
        await ledger.put(Section.KEYS, "b", {}, unique_key="hash")
    assert await ledger.version() == before
    await ledger.put(Section.KEYS, "a", {"n": 1}, unique_key="hash")
    await ledger.delete(Section.KEYS, "a")
    await ledger.put(Section.KEYS, "b", {}, unique_key="hash")


async def test_bounds(ledger: ControlLedger) -> None:
    for row_id, data in (("", {}), ("x" * 257, {}), ("a", {"x": "y" * MAX_DATA_BYTES})):
        with pytest.raises(ValueError, match="out of bounds"):
            await ledger.put(Section.KEYS, row_id, data)


async def test_pages_of_a_section(ledger: ControlLedger) -> None:
    for name in ("c", "a", "b"):
        await ledger.put(Section.KEYS, name, {"n": name})
    await ledger.put(Section.LIMITS, "aa", {})
    await ledger.delete(Section.KEYS, "b")
    rows, more = await ledger.page(Section.KEYS, None, 1)
    assert ([row.id for row in rows], more) == (["a"], True)
    rows, more = await ledger.page(Section.KEYS, "a", 1)
    assert ([row.id for row in rows], more) == (["c"], False)


async def test_changes_since_a_version(ledger: ControlLedger) -> None:
    await ledger.put(Section.LIMITS, "a", {"n": 1})
    begun = await ledger.since("", 0)
    assert begun.restart
    assert told(begun.rows) == [("limits", "a", b'{"n":1}')]
    await ledger.put(Section.KEYS, "b", {"n": 2})
    await ledger.delete(Section.LIMITS, "a")
    found = await ledger.since(begun.history, begun.version)
    assert not found.restart
    assert told(found.rows) == [("keys", "b", b'{"n":2}'), ("limits", "a", None)]
    assert (await ledger.since(found.history, found.version)).rows == ()
    for history, version in (("other", 1), (found.history, found.version + 1)):
        again = await ledger.since(history, version)
        assert again.restart
        assert len(again.rows) == 2


async def test_pages_of_changes_are_bounded_and_complete(
    ledger: ControlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "PAGE_ROWS", 4)
    monkeypatch.setattr(control, "PAGE_BYTES", 250)
    for number in range(10):
        await ledger.put(Section.KEYS, f"{number}", {"x": "y" * (100 if number > 4 else 1)})
    page, found = await ledger.since("", 0), []
    while True:
        found.append([row.id for row in page.rows])
        if not page.more:
            break
        page = await ledger.since(page.history, page.version)
        assert not page.restart
    assert found == [["0", "1", "2", "3"], ["4", "5", "6"], ["7", "8"], ["9"]]


async def test_forgotten_removals_restart_who_has_not_seen_them(ledger: ControlLedger) -> None:
    await ledger.put(Section.KEYS, "a", {})
    await ledger.put(Section.KEYS, "b", {})
    before = await ledger.since("", 0)
    await ledger.delete(Section.KEYS, "a")
    assert await ledger.forget_removed(3600) == 0
    after = await ledger.since("", 0)
    assert await ledger.forget_removed(-1) == 1
    assert not (await ledger.since(after.history, after.version)).restart
    assert told((await ledger.since(before.history, before.version)).rows) == [("keys", "b", b"{}")]
    assert (await ledger.since(before.history, before.version)).restart
    assert not (await ledger.since(before.history, before.version, restarting=True)).restart


async def test_racing_writers_get_versions_in_the_order_of_their_commits(ledger: ControlLedger) -> None:
    seen: list[int] = []

    async def follow() -> None:
        history, version = "", 0
        while version < 40:
            page = await ledger.since(history, version)
            seen.extend(row.version for row in page.rows)
            history, version = page.history, page.version

    async def write(name: str) -> None:
        for number in range(10):
            await ledger.put(Section.KEYS, f"{name}{number}", {})

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for name in "abcd":
            group.create_task(write(name))
    assert seen == list(range(1, 41))
