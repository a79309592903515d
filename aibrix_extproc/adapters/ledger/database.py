"""The database behind the ledger: SQLite by default, PostgreSQL in a cluster, one set of statements for both."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import Executable, Row, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DisconnectionError,
    InvalidatePoolError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from aibrix_extproc.adapters.ledger.clock import DatabaseClock
from aibrix_extproc.adapters.ledger.libpq import split
from aibrix_extproc.adapters.ledger.migrate import UnknownRevisionError, upgrade

POOL_SIZE: Final = 8  # connections to PostgreSQL; each process has its own pool
ASK_AFTER_SECONDS: Final = 30.0  # without use a connection to PostgreSQL is asked whether it still lives
WAIT_SECONDS: Final = 10.0  # for a connection, for SQLite's lock, for a statement's lock
_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_MIGRATION_LOCK: Final = 0x61_69_62_72_69_78  # "aibrix"; any number that others do not use


class LedgerError(Exception):
    """The database cannot be used; one sentence that says what to do."""


class Database:
    """A pool of connections and the two kinds of transactions.

    SQLite's write transactions begin IMMEDIATE: one that begins by reading and then writes would fail where another
    process has written meanwhile.
    """

    def __init__(self, url: str) -> None:
        self._url, self._driver_arguments = split(_url(url))
        self.is_sqlite = self._url.get_backend_name() == "sqlite"
        self.clock = DatabaseClock()
        self._engine = self._made(WAIT_SECONDS)
        # PostgreSQL gives each statement its own snapshot, in a transaction or not; so reads do without, which is one
        # round trip in place of three.
        self._reading = self._engine if self.is_sqlite else self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._bare = self._reading.execution_options(bare=True)

    def _made(self, wait_seconds: float | None) -> AsyncEngine:
        # A transaction has always ended when its connection comes back.
        options = {"pool_reset_on_return": None, **self._options(wait_seconds)}
        engine = create_async_engine(self._url, **options)
        if self.is_sqlite:
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(engine.sync_engine, "begin", _begin_sqlite)
        else:
            event.listen(engine.sync_engine, "checkin", _note_use)
            event.listen(engine.sync_engine, "checkout", _refuse_dead)
        return engine

    def _options(self, wait_seconds: float | None) -> dict[str, Any]:
        """`wait_seconds`: for locks and answers; None: as long as it takes."""
        if self.is_sqlite:
            return {}
        server = {
            "lock_timeout": f"{int((wait_seconds or 0) * 1000)}",
            # A frozen process must not keep its rows locked longer than others wait for its lease.
            "idle_in_transaction_session_timeout": f"{int(WAIT_SECONDS * 1000)}",
            "application_name": "aibrix-extproc",
        }
        return {
            "pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": WAIT_SECONDS, "skip_autocommit_rollback": True,
            "connect_args": {
                "timeout": WAIT_SECONDS, "command_timeout": wait_seconds and 3 * wait_seconds,
                "server_settings": server, **self._driver_arguments,
            },
        }  # fmt: skip

    @property
    def shown(self) -> str:
        """The URL without its password, for logs."""
        return self._url.render_as_string(hide_password=True)

    async def open(self) -> None:
        """Connect and bring the schema up to date, under a lock that other starting processes wait for.

        Raises LedgerError. An index of a large table takes as long as it takes: no answer is waited for in vain here.
        """
        if self.is_sqlite and self._url.database:
            await asyncio.to_thread(Path(self._url.database).parent.mkdir, parents=True, exist_ok=True)
        patient = self._made(None)
        try:
            async with _connected(patient) as connection:
                connection = await connection.execution_options(writes=True)
                async with connection.begin():
                    if not self.is_sqlite:
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
                    await connection.run_sync(upgrade)
                    await self.now(connection)
        except UnknownRevisionError as error:
            raise LedgerError(
                f"the database {self.shown} is of a newer version than this program ({error}): start that version, or"
                " restore the backup that was made before it"
            ) from error
        except (SQLAlchemyError, OSError) as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise LedgerError(f"cannot use the database {self.shown}: {reason}") from error
        finally:
            await patient.dispose()

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """For several statements that only read. On SQLite they see one snapshot, on PostgreSQL each its own."""
        async with _connected(self._reading) as connection, connection.begin():
            yield connection

    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """The rows of one statement that only reads, in as few steps as the driver needs."""
        async with _connected(self._bare) as connection:
            return (await connection.execute(query)).all()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write; committed at the end, rolled back on an exception."""
        async with _connected(self._engine) as connection:
            connection = await connection.execution_options(writes=True)
            async with connection.begin():
                yield connection

    async def now(self, connection: AsyncConnection) -> float:
        """The database's clock, in seconds since the epoch: the one that all processes share."""
        clock = (
            "julianday('now') * 86400.0 - 210866760000.0" if self.is_sqlite else "extract(epoch from clock_timestamp())"
        )
        found = float((await connection.execute(text(f"SELECT {clock}"))).scalar_one())
        self.clock.observe(found)
        return found


@asynccontextmanager
async def _connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    try:
        connection = await engine.connect()
    except SQLAlchemyError:
        raise
    except Exception as error:  # asyncpg's own, and the operating system's, come as they are
        raise OperationalError("connect", None, error) from error
    try:
        yield connection
    finally:
        await connection.close()


def _url(given: str) -> sqlalchemy.URL:
    try:
        url = make_url(given)
    except ArgumentError as error:
        raise LedgerError(
            "the database is not a URL; expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    driver = _DRIVERS.get(url.get_backend_name())
    if driver is None:
        raise LedgerError(f"databases of the kind {url.get_backend_name()} are not supported; use sqlite or postgresql")
    return url.set(drivername=driver)


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions by its own rules
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={int(WAIT_SECONDS * 1000)}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON",
    ):  # fmt: skip
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: sqlalchemy.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("bare", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes", False) else "BEGIN")


def _note_use(_: object, record: ConnectionPoolEntry) -> None:
    record.info["used_at"] = time.monotonic()


def _refuse_dead(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """Before a connection is used: the server may have ended it, or something between may have forgotten it.

    Asking the server each time, as `pool_pre_ping` does, takes three round trips; the socket tells of most ends by
    itself. Raises DisconnectionError, at which the pool makes another one.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError("the server has closed the connection")
    if time.monotonic() - record.info.get("used_at", time.monotonic()) > ASK_AFTER_SECONDS:
        try:
            connection.ping()
        except Exception as error:
            raise DisconnectionError("the connection does not answer any more") from error
