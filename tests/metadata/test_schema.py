"""The migrations, one after the other, make the tables that the code has."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import metadata
from aibrix_extproc.adapters.ledger.schema_engines import adapter_states


async def test_migrations_make_the_tables(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []
    assert adapter_states.metadata is metadata
