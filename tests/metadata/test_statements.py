"""How often each operation of the API asks the database. The times of requests follow from it, more than from ours."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from openai import AsyncOpenAI
from sqlalchemy import event, literal, select, text
from sqlalchemy.exc import DBAPIError

from aibrix_extproc.adapters.ledger.database import Database
from tests.metadata.conftest import Service
from tests.metadata.test_batches import create, line
from tests.waiting import until

Ask = Callable[[AsyncOpenAI, dict[str, str]], Awaitable[Any]]
UPLOAD: Any = {"bytes": 1, "filename": "a", "mime_type": "text/plain", "purpose": "user_data"}


async def counted(database: Database) -> list[str]:
    """All that is asked from now on; there is nothing to see of a COMMIT of SQLite."""
    engine, found = database._engine.sync_engine, list[str]()
    event.listen(engine, "before_cursor_execute", lambda *event_: found.append(event_[2]))
    if not database.is_sqlite:

        def listen(connection: Any, _: object) -> None:
            """What is not a prepared statement: BEGIN, COMMIT, and whether the server is there."""
            connection.driver_connection.add_query_logger(lambda record: found.append(record.query))

        event.listen(engine, "connect", listen)
        await database._engine.dispose()  # for connections that are listened to
    return found


# How often on SQLite, and on PostgreSQL, where BEGIN and COMMIT take as long as statements.
OPERATIONS: dict[str, tuple[Ask, int, int]] = {
    "retrieve a file": (lambda client, ids: client.files.retrieve(ids["file"]), 1, 1),
    "content": (lambda client, ids: client.files.content(ids["file"]), 2, 2),
    "list files": (lambda client, _: client.files.list(), 2, 1),
    "next page": (lambda client, ids: client.files.list(after=ids["file"]), 3, 2),
    "create a file": (lambda client, _: client.files.create(file=("a", b"x"), purpose="user_data"), 4, 5),
    "create an upload": (lambda client, _: client.uploads.create(**UPLOAD), 4, 6),
    "retrieve a batch": (lambda client, ids: client.batches.retrieve(ids["batch"]), 1, 1),
    "list batches": (lambda client, _: client.batches.list(), 2, 1),
}


async def test_operations_ask_the_database_no_more_often_than_they_must(service: Service) -> None:
    client = service.openai()
    batch = await create(client, [line("a")])
    ids = {"batch": batch.id, "file": batch.input_file_id}
    service.working.cancel()
    await asyncio.wait([service.working])
    asked = await counted(service.database)
    for name, (ask, sqlite, postgresql) in OPERATIONS.items():
        await ask(client, ids)  # prepares statements
        before = len(asked)
        await ask(client, ids)
        most = sqlite if service.database.is_sqlite else postgresql
        assert len(asked) - before <= most, (name, asked[before:])
    assert asked


@pytest.mark.postgres
@pytest.mark.parametrize("ask_after", [1000.0, -1.0], ids=["by the socket", "by asking"])
async def test_connections_that_the_server_has_ended_are_replaced(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, ask_after: float
) -> None:
    monkeypatch.setattr("aibrix_extproc.adapters.ledger.database.ASK_AFTER_SECONDS", ask_after)
    database, other = Database(postgres_url), Database(postgres_url)
    one = select(literal(1))
    mine = text("SELECT pg_backend_pid()")
    try:
        await asyncio.gather(*(database.rows(one) for _ in range(4)))
        pids = {(await database.rows(mine))[0][0] for _ in range(2)}
        end = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND application_name = 'aibrix-extproc'"
        )
        await other.rows(end)

        async def answers() -> bool:
            with suppress(DBAPIError):
                return (await database.rows(mine))[0][0] not in pids
            return False

        await until(answers)
        assert len(await asyncio.gather(*(database.rows(one) for _ in range(4)))) == 4
    finally:
        await database.close()
        await other.close()
