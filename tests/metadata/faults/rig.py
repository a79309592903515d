"""Metadata services in processes of their own, to be killed, frozen and started again on the same state."""

import asyncio
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from openai import AsyncOpenAI

from aibrix_extproc.adapters.blobs.store import BlobStore
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import Quota, QuotaLedger
from aibrix_extproc.adapters.ledger.uploads import UploadLedger
from aibrix_extproc.app.metadata.service import PREFIXES
from aibrix_extproc.app.metadata.sweeping import Sweeper
from tests.metadata.conftest import KEY, signing
from tests.metadata.engine import Engine
from tests.metadata.faults.child import Options, serve
from tests.waiting import until

DEADLINE = 60.0
LEASE_SECONDS = 30.0  # a process that stands still for a while keeps its work
SHORT_LEASE_SECONDS = 2.0  # of processes whose end is noticed by it
PLAIN = Options()
_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["tests.metadata.faults.child", "aibrix_extproc.app.metadata.service", "aiosqlite"])


@dataclass
class Plant:
    """Everything that outlives a process: its folder, its secrets, and the engines that count."""

    folder: Path
    engine: Engine
    gateway: str
    settings: dict[str, Any] = field(default_factory=dict)  # of the metadata group, beside the plant's own
    environment: dict[str, str] = field(default_factory=dict)  # of every process
    running: list["Running"] = field(default_factory=list)

    @property
    def blobs(self) -> Path:
        """The folder of the blobs."""
        return self.folder / "blobs"

    async def start(self, options: Options = PLAIN, **settings: Any) -> "Running":
        """One more process, ready to serve."""
        started = self.launch(options, **settings)
        await started.ready()
        return started

    def launch(self, options: Options = PLAIN, **settings: Any) -> "Running":
        """One more process, as long as it takes to start."""
        keys = self.folder / "keys"
        if not keys.exists():  # another process may be reading it
            keys.write_bytes(KEY)
        metadata = {
            "data_dir": str(self.folder), "port": 0, "gateway_url": self.gateway, "lease_seconds": LEASE_SECONDS,
            **self.settings, **settings,
        }  # fmt: skip
        tree = {"metadata": metadata, "metering": {"note_keys": str(keys)}, "admin": {"port": 0},
                "log": {"format": "json"}}  # fmt: skip
        log = self.folder / f"log-{len(self.running)}"
        process = _FORK.Process(target=serve, args=({"test": tree}, str(log), options, self.environment), daemon=True)
        process.start()
        started = Running(process, log)
        self.running.append(started)
        return started

    async def sweep(self) -> None:
        """What the service does with orphans once they are old: here at once."""
        database = Database(f"sqlite:///{self.folder / 'ledger.sqlite'}")
        quota = Quota(100, 2**40, 100, 100)
        files, uploads = FileLedger(database, quota), UploadLedger(database, quota)
        blobs = BlobStore(f"file://{self.blobs}")
        later = Sweeper(
            files,
            uploads,
            QuotaLedger(database, quota),
            blobs,
            PREFIXES,
            1.0,
            0.0,
            lambda: time.time() + 1.0,
            lambda: 0.5,
        )
        try:
            await later.sweep()
        finally:
            await database.close()

    def stored(self) -> set[str]:
        """Keys of all blobs, whatever they are."""
        return {str(path.relative_to(self.blobs)) for path in self.blobs.rglob("*") if path.is_file()}

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What SQLite holds, read beside the service."""
        with _reading(self.folder / "ledger.sqlite") as connection:
            return connection.execute(query, values).fetchall()

    def committed(self) -> set[str]:
        """The custom_ids whose results can never be lost any more."""
        blobs = [row[0] for row in self.rows(
            "SELECT blob FROM batch_segments UNION ALL SELECT output_blob FROM batch_shards WHERE output_blob IS NOT"
            " NULL UNION ALL SELECT error_blob FROM batch_shards WHERE error_blob IS NOT NULL"
        )]  # fmt: skip
        lines = (line for blob in blobs for line in (self.blobs / blob).read_bytes().splitlines())
        return {json.loads(line[line.index(b"{") :])["custom_id"] for line in lines}

    async def stop(self) -> None:
        """End every process that still runs."""
        for one in self.running:
            one.process.kill()
        for one in self.running:
            await one.gone()


@contextmanager
def _reading(path: Path, seconds: float = 30.0) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path, timeout=seconds)
    try:
        yield connection
    finally:
        connection.close()


@dataclass
class Running:
    """One process."""

    process: Any
    log: Path
    base_url: str = ""

    async def ready(self) -> None:
        """Wait until it listens."""
        await until(self._listens, self.output)

    def _listens(self) -> bool:
        assert self.process.is_alive(), self.output()
        lines = (json.loads(line) for line in self.output().splitlines() if line.startswith('{"'))
        found = next((line for line in lines if line["message"] == "listening"), None)
        self.base_url = f"http://{found.get('api')}" if found else ""
        return found is not None

    def output(self) -> str:
        """Its log so far."""
        return self.log.read_text() if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.process.pid, number)

    async def freeze(self, database: Path) -> None:
        """SIGSTOP at a moment at which it holds no lock of SQLite, which nobody else could get then."""

        def frozen() -> bool:
            self.send(signal.SIGSTOP)
            if not self._stands():
                return False
            try:
                with _reading(database, 0.2) as connection:
                    connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                self.send(signal.SIGCONT)
                return False
            return True

        await until(frozen, "it was frozen outside of transactions")

    def _stands(self) -> bool:
        """Whether each thread has stopped; one inside of a system call ends that first."""
        threads = Path(f"/proc/{self.process.pid}/task")
        found = [one.read_text().rpartition(")")[2].split()[0] for one in threads.glob("*/stat")]
        return set(found) <= {"T"}

    async def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        await self.gone()

    async def gone(self) -> int:
        """Wait for the end; minus the signal that ended it, or its exit code."""
        await asyncio.to_thread(self.process.join, DEADLINE)
        assert self.process.exitcode is not None, "it does not end"
        return int(self.process.exitcode)

    def openai(self, caller: str = "alice", retries: int = 0) -> AsyncOpenAI:
        """A client whose requests are signed as the gateway signs them."""
        http = httpx2.AsyncClient(event_hooks={"request": [signing(caller)]}, timeout=60.0, verify=False)
        return AsyncOpenAI(base_url=f"{self.base_url}/v1", api_key="any", max_retries=retries, http_client=http)


@asynccontextmanager
async def planted(folder: Path, environment: dict[str, str] | None = None, **settings: Any) -> AsyncIterator[Plant]:
    """A plant without a process, and its end."""
    engine = Engine()
    plant = Plant(folder, engine, await engine.start(), settings, environment or {})
    try:
        yield plant
    finally:
        await plant.stop()
        await engine.stop()
