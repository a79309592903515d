"""A metadata service in the test's own loop, on a random port, and an OpenAI client that signs as the gateway does."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import httpx2
import pytest
from openai import AsyncOpenAI
from sqlalchemy import insert, text

from aibrix_extproc.adapters.blobs.store import BlobStore
from aibrix_extproc.adapters.ledger.batches import BatchLedger
from aibrix_extproc.adapters.ledger.control import ControlLedger
from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import Quota, QuotaLedger
from aibrix_extproc.adapters.ledger.schema import control_version, metadata
from aibrix_extproc.adapters.ledger.uploads import UploadLedger
from aibrix_extproc.adapters.ledger.work import WorkLedger
from aibrix_extproc.adapters.openai_http.server import ApiServer
from aibrix_extproc.app.metadata.batch_api import BatchApi
from aibrix_extproc.app.metadata.batch_events import BatchEvents
from aibrix_extproc.app.metadata.batch_steps import BatchSteps
from aibrix_extproc.app.metadata.batch_worker import BatchWorker
from aibrix_extproc.app.metadata.control_service import ControlService
from aibrix_extproc.app.metadata.file_api import FileApi
from aibrix_extproc.app.metadata.following import Followers
from aibrix_extproc.app.metadata.gates import Gates
from aibrix_extproc.app.metadata.limit_api import batch_limits
from aibrix_extproc.app.metadata.line_sender import LineSender
from aibrix_extproc.app.metadata.receiving import Receiver
from aibrix_extproc.app.metadata.service import PREFIXES, _new_key
from aibrix_extproc.app.metadata.shard_runner import ShardRunner
from aibrix_extproc.app.metadata.sweeping import Sweeper
from aibrix_extproc.app.metadata.upload_api import UploadApi
from aibrix_extproc.core.access.principal import Grants
from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.batches.records import BatchRecord
from aibrix_extproc.core.batches.validation import InputLimits
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from aibrix_extproc.core.openai.contract.operation_rows import ROUTER
from aibrix_extproc.core.openai.contract.operations import Match
from tests.metadata.engine import Engine
from tests.metadata.postgres import postgres
from tests.metadata.s3_server import BUCKET, S3Server, s3_server

KEY = b"k" * 32
ORPHAN_SECONDS = 3600.0
LEASE_SECONDS = 30.0  # a worker that stands still for a while keeps its work


@dataclass
class Clock:
    """Seconds since the epoch, moved by tests."""

    offset: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset


@dataclass
class Service:
    """The parts that tests look at."""

    base_url: str
    database: Database
    blobs: BlobStore
    folder: Path
    clock: Clock
    sweeper: Sweeper
    engine: Engine
    worker: Callable[[str, float], BatchWorker]  # another one, by its owner's name and the seconds of its leases
    answered: asyncio.Event  # set with every answer
    working: asyncio.Task[None]  # the worker's

    def stored(self) -> list[Path]:
        """Files in the blob folder, whatever they are."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def signing(self, caller: str, grants: Grants | None = None) -> Callable[[httpx2.Request], object]:
        return signing(caller, self.clock, grants)

    def http(self, caller: str = "alice", grants: Grants | None = None) -> httpx2.AsyncClient:
        hooks = {"request": [self.signing(caller, grants)]}
        return httpx2.AsyncClient(base_url=self.base_url, event_hooks=hooks, timeout=30.0, verify=False)

    def openai(self, caller: str = "alice") -> AsyncOpenAI:
        # Without `verify` each client reads the authorities of the machine: longer than most tests take for all else.
        client = httpx2.AsyncClient(event_hooks={"request": [self.signing(caller)]}, timeout=30.0, verify=False)
        return AsyncOpenAI(base_url=f"{self.base_url}/v1", api_key="any", max_retries=0, http_client=client)


def signing(
    caller: str, clock: Callable[[], float] = time.time, grants: Grants | None = None
) -> Callable[[httpx2.Request], object]:
    """A hook that signs requests for a caller, as the gateway does."""

    async def add(request: httpx2.Request) -> None:
        path = request.url.raw_path.decode().partition("?")[0]
        found = ROUTER.match(request.method, path)
        operation = found.operation.id if isinstance(found, Match) else "none"
        statement = SignedCaller(caller, "r-1", operation, int(clock()) + 60, grants=grants)
        request.headers[SIGNED_CALLER] = sign(KEY, SIGNED_CALLER, statement)

    return add


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that uses the service runs on both databases with a folder, and on SQLite with an S3 server."""
    if "storage" in metafunc.fixturenames:
        kinds = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
        if "blob_folder" in metafunc.fixturenames:
            kinds.append(pytest.param("s3", marks=pytest.mark.s3))
        metafunc.parametrize("storage", kinds)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database of the newest schema: to copy one is a fifth of the work of its migrations."""
    place = tmp_path_factory.mktemp("ledger") / "ledger.sqlite"

    async def make() -> None:
        database = Database(f"sqlite:///{place}")
        await database.open()
        await database.close()

    with asyncio.Runner() as runner:
        runner.run(make())
    return place


@pytest.fixture
async def database(
    storage: str, tmp_path: Path, migrated: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Database]:
    if storage == "postgresql":
        database = Database(request.getfixturevalue("postgres_url"))
        await database.open()
        async with database.write() as connection:  # a database for each test takes longer to make than most tests run
            await connection.execute(text(f"TRUNCATE {', '.join(table.name for table in metadata.sorted_tables)}"))
            await connection.execute(insert(control_version).values(id=1, history="emptied", version=0, floor=0))
    else:
        database = Database(f"sqlite:///{shutil.copy(migrated, tmp_path / 'ledger.sqlite')}")
        await database.open()
    yield database
    await database.close()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that this process' blob stores find by the environment."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def blob_folder(storage: str, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """The URL of an empty blob store, and the folder that its blobs are files in."""
    if storage == "s3":
        name = os.urandom(6).hex()
        return f"s3://{BUCKET}/{name}", request.getfixturevalue("s3").bucket / name
    return f"file://{tmp_path / 'blobs'}", tmp_path / "blobs"


@pytest.fixture
async def service(database: Database, blob_folder: tuple[str, Path]) -> AsyncIterator[Service]:
    clock = Clock()
    url, folder = blob_folder
    blobs = BlobStore(url)
    quota = Quota(50, 64 * 1024 * 1024, 20, 20)
    files, uploads = FileLedger(database, quota), UploadLedger(database, quota)
    receiver = Receiver(blobs, _new_key)
    batches = BatchLedger(database, quota)
    engine = Engine()
    gateway = await engine.start()
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    limits = InputLimits(requests=5000, enqueued_tokens=50_000, line_bytes=100_000)

    async def models(_: BatchRecord) -> frozenset[str]:
        return frozenset({"m", "n"})

    def worker(owner: str, lease_seconds: float) -> BatchWorker:
        ledger = WorkLedger(database, owner, lease_seconds)
        sender = LineSender(session, gateway, lambda batch: {"x-owner": batch.caller}, Gates(), clock)
        shards = ShardRunner(ledger, blobs, sender, _new_key, limits.line_bytes)
        steps = BatchSteps(ledger, blobs, models, limits, partial(batch_limits, ControlLedger(database)), clock)
        return BatchWorker(ledger, steps, shards, lease_seconds)

    working = worker("first", LEASE_SECONDS)
    handlers = {
        **FileApi(files, blobs, receiver, 8 * 1024 * 1024, clock, os.urandom).handlers(),
        **UploadApi(uploads, files, blobs, receiver, clock, os.urandom).handlers(),
        **BatchEvents(batches, Followers(look_seconds=0.05)).handlers(),
        **BatchApi(batches, files, clock, os.urandom, working.wake).handlers(),
        **ControlService(database, 400).handlers(),
    }
    answered = asyncio.Event()
    api = ApiServer(handlers, keys=lambda: (KEY,), observe=lambda *_: answered.set(), wall_clock=clock)
    port = await api.start("127.0.0.1", 0)
    sweeper = Sweeper(
        files, uploads, QuotaLedger(database, quota), blobs, PREFIXES, 300.0, ORPHAN_SECONDS, clock, lambda: 0.5
    )
    task = asyncio.create_task(working.run())
    try:
        url = f"http://127.0.0.1:{port}"
        yield Service(url, database, blobs, folder, clock, sweeper, engine, worker, answered, task)
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=60)
        await session.close()
        await engine.stop()
        await asyncio.wait_for(api.stop(), 60)
