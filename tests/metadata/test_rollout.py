"""A rollout: processes of the version before read and write on, after the first one of the new version has migrated."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, MetaData, Table, create_engine, event

from aibrix_extproc.adapters.ledger.migrate import upgrade

_SCRIPTS: Final = Path("aibrix_extproc/adapters/ledger/migrations/versions")
REVISIONS: Final = sorted(path.name[1:5] for path in _SCRIPTS.glob("v*.py"))


def tables(connection: Connection) -> dict[str, Table]:
    """What a process of the version at hand knows."""
    known = MetaData()
    known.reflect(connection)
    return dict(known.tables)


def row(table: Table, number: int) -> dict[str, Any]:
    """A value for every column: what a process writes that knows no others."""
    found: dict[str, Any] = {}
    for column in table.columns:
        found[column.name] = f"{number}" if isinstance(column.type, (sa.String, sa.Text)) else number
        if isinstance(column.type, sa.Boolean):
            found[column.name] = False
    return found


@pytest.mark.parametrize(("before", "after"), list(pairwise(REVISIONS)))
def test_process_of_the_version_before_writes_on_after_a_migration(before: str, after: str) -> None:
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=OFF"))
    with engine.begin() as connection:
        upgrade(connection, before)
        old = tables(connection)
        del old["alembic_version"]
        for table in old.values():
            if not connection.execute(sa.select(table)).first():
                connection.execute(sa.insert(table).values(row(table, 1)))
        rows = {name: connection.execute(sa.select(table)).all() for name, table in old.items()}
        upgrade(connection, after)
        for name, table in old.items():
            assert connection.execute(sa.select(table)).all() == rows[name], name
            connection.execute(sa.insert(table).values(row(table, 2)))
            connection.execute(sa.update(table).values({column.name: column for column in table.columns}))
            assert len(connection.execute(sa.select(table)).all()) == len(rows[name]) + 1
            connection.execute(sa.delete(table))
