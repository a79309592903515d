"""Brings a database's schema up to date, with Alembic."""

from collections.abc import Iterable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

_SCRIPTS = Path(__file__).parent / "migrations"


class UnknownRevisionError(Exception):
    """A newer version of this program has migrated the database; which revision it is of."""


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run the migrations that the database has not seen, inside of the connection's transaction.

    `to`: the revision to stop at. Processes of the version before go on while this one's migrations are there, so a
    migration only adds: tables, indexes that are not unique, and columns that may be left out.
    Raises UnknownRevisionError.
    """
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {one.revision for one in _known(config)}:
        raise UnknownRevisionError(f"revision {revision}")
    command.upgrade(config, to)


def _known(config: Config) -> Iterable[Script]:
    return ScriptDirectory.from_config(config).walk_revisions()
