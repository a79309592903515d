"""The database as it is opened: its migrations make the tables that the code has, and its URL is one of libpq."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, column, make_url, table, text, update

from aibrix_extproc.adapters.ledger.database import Database, LedgerError
from aibrix_extproc.adapters.ledger.libpq import split
from aibrix_extproc.adapters.ledger.schema import metadata
from aibrix_extproc.adapters.ledger.schema_engines import adapter_states


async def test_migrations_make_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []
    assert adapter_states.metadata is metadata


async def test_database_of_a_newer_version_is_refused_with_a_sentence(database: Database) -> None:
    """A process of the old version that starts again in the middle of a rollout, or after it was undone."""
    revision = update(table("alembic_version", column("version_num")))
    async with database.write() as connection:
        before = (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one()
        await connection.execute(revision.values(version_num="9999"))
    try:
        with pytest.raises(LedgerError, match=r"newer version.*revision 9999"):
            await database.open()
    finally:
        async with database.write() as connection:
            await connection.execute(revision.values(version_num=before))
    await database.open()


@pytest.mark.postgres
async def test_parameters_of_libpq_do_what_they_say(postgres_url: str) -> None:
    """The server of the tests has no TLS."""
    for query in ("sslmode=disable", "sslmode=prefer&connect_timeout=5", "sslmode=disable&application_name=x"):
        database = Database(f"{postgres_url}?{query}")
        async with database.read() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
        await database.close()
    database = Database(f"{postgres_url}?sslmode=require")
    with pytest.raises(LedgerError, match="SSL"):
        await database.open()
    await database.close()


@pytest.mark.parametrize(
    ("given", "kept", "dsn"),
    [
        ("", "", None),
        ("?sslmode=require", "", "postgresql://?sslmode=require"),
        ("?sslmode=prefer&sslmode=verify-full&sslrootcert=/a/b%20c.pem&connect_timeout=3",
         "", "postgresql://?sslmode=verify-full&sslrootcert=%2Fa%2Fb+c.pem"),
        ("?prepared_statement_cache_size=0", "?prepared_statement_cache_size=0", None),
    ],
)  # fmt: skip
def test_parameters_of_libpq_go_to_the_driver(given: str, kept: str, dsn: str | None) -> None:
    url, arguments = split(make_url(f"postgresql+asyncpg://u:p@h/db{given}"))
    assert url.render_as_string(hide_password=False) == f"postgresql+asyncpg://u:p@h/db{kept}"
    assert arguments.get("dsn") == dsn
