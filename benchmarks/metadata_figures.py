"""What is measured of the metadata service, part by part."""

import asyncio
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from sqlalchemy import insert

from aibrix_extproc.adapters.ledger.database import Database
from aibrix_extproc.adapters.ledger.schema import files
from benchmarks.metadata_gateway import CONCURRENT, rates
from benchmarks.metadata_service import MIB, URL, Bench, line, pieces
from benchmarks.processes import peak_bytes, reset_peak, usage
from tests.metadata.postgres import postgres

BIG_BYTES: Final = 199 * MIB
LINES: Final = 5000
ROUNDS: Final = 3
UPLOAD_ROUNDS: Final = 7
_REQUESTS: Final = 300  # of one client in a round
_FILES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the page."""

    what: str
    measured: str
    wanted: str
    met: bool


async def uploads(bench: Bench) -> list[Row]:
    """A large file here, with a plain handler, and with one that hashes and flushes, too; then twenty at once."""
    pid = bench.service.pid
    durable = f"{bench.plain}/durable"
    found: dict[str | None, list[_Upload]] = {None: [], bench.plain: [], durable: []}
    for url in found:
        await _one_upload(bench, MIB, url)
    reset_peak([pid])
    before = usage([pid]).rss_bytes
    for _ in range(UPLOAD_ROUNDS):
        for url, measured in found.items():
            measured.append(await _one_upload(bench, BIG_BYTES, url))
    one = (peak_bytes([pid]) - before) / MIB
    median = {url: _median(measured) for url, measured in found.items()}
    plain, promised = (median[url].seconds / median[None].seconds for url in (bench.plain, durable))
    cpu = [f"{median[url].cpu_seconds:.2f}" for url in found]
    rate = BIG_BYTES / MIB / median[None].seconds
    reset_peak([pid])
    before = usage([pid]).rss_bytes
    await asyncio.gather(*(bench.upload(pieces(BIG_BYTES // 10), "x.bin", "user_data") for _ in range(20)))
    twenty = (peak_bytes([pid]) - before) / MIB
    return [
        Row("199 MB upload: memory added to the service", f"{one:.1f} MiB", "< 32 MiB", one < 32),
        Row(f"its throughput ({rate:.0f} MB/s) against a plain aiohttp handler that writes to a file, without hash and"
            " fsync", f"{plain:.2f}", "≥ 0.8", plain >= 0.8),
        Row("the same against a plain handler that hashes and flushes as the service does", f"{promised:.2f}", "≥ 0.8",
            promised >= 0.8),
        Row("CPU for it: the service, the plain handler, the one that hashes and flushes", f"{' s, '.join(cpu)} s", "",
            True),
        Row("20 uploads of 20 MB at once: memory added", f"{twenty:.1f} MiB", "< 640 MiB", twenty < 640),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Upload:
    """The cost of one upload."""

    seconds: float
    cpu_seconds: float  # of the server


async def _one_upload(bench: Bench, size: int, url: str | None) -> _Upload:
    pid = bench.service.pid if url is None else bench.plain_pid
    started, cpu = time.perf_counter(), usage([pid]).cpu_seconds
    made = await bench.upload(pieces(size), "big.bin", "user_data", url)
    spent = _Upload(time.perf_counter() - started, usage([pid]).cpu_seconds - cpu)
    if url is None:
        await bench.ask("delete_file", "DELETE", f"/v1/files/{made['id']}")
    return spent


def _median(measured: list[_Upload]) -> _Upload:
    return _Upload(
        *(statistics.median(one) for one in zip(*((m.seconds, m.cpu_seconds) for m in measured), strict=True))
    )


async def execution(bench: Bench) -> list[Row]:
    """A batch, and a plain client that sends the same requests through the same gateway; alternately."""
    lines = [line(number, 200) for number in range(LINES)]
    bodies = [json.dumps(json.loads(one)["body"]).encode() for one in lines]
    await bench.until(await bench.batch(lines[:500]), "completed")
    ours, plain, writes, our_cpu, plain_cpu = [], [], [], [], []
    pid = bench.service.pid
    for _ in range(ROUNDS):
        made = await bench.batch(lines)
        await bench.until(made, "in_progress", "finalizing", "completed")
        counted, cpu = _counted_writes(bench), usage([pid]).cpu_seconds
        started = time.perf_counter()
        done = await bench.until(made, "completed", pause=0.2)
        ours.append(LINES / (time.perf_counter() - started))
        if done["request_counts"]["completed"] != LINES:
            raise RuntimeError(done)
        our_cpu.append((usage([pid]).cpu_seconds - cpu) / LINES * 1e6)
        writes.append((_counted_writes(bench) - counted) / LINES)
        started, cpu = time.perf_counter(), time.process_time()
        await _plain_client(bench, bodies)
        plain_cpu.append((time.process_time() - cpu) / LINES * 1e6)
        plain.append(LINES / (time.perf_counter() - started))
    ratio, written = statistics.median(ours) / statistics.median(plain), statistics.median(writes)
    text = f"{LINES:,} lines of a 1 ms engine in the gateway's place: {statistics.median(ours):.0f} a second, against"
    return [
        Row(f"{text} {statistics.median(plain):.0f} of a plain asyncio client with {CONCURRENT} at once",
            f"{ratio:.2f}", "≥ 0.7", ratio >= 0.7),
        Row("CPU of the service for each line, and of the plain client",
            f"{statistics.median(our_cpu):.0f} and {statistics.median(plain_cpu):.0f} µs", "", True),
        Row("rows written to the ledger for each line", f"{written:.3f}", "< 0.2", written < 0.2),
    ]  # fmt: skip


async def gateway(bench: Bench) -> list[Row]:
    """The same beside everything that stands between a client and an engine."""
    found = await rates(bench.folder, bench.http, [line(number, 200) for number in range(LINES)], ROUNDS)
    ratio = found.batch / found.plain
    return [
        Row(f"{LINES:,} lines through Envoy and the gateway to a simulator of 1 ms: {found.batch:.0f} a second,"
            f" against {found.plain:.0f} of a plain asyncio client with {CONCURRENT} at once", f"{ratio:.2f}",
            "≥ 0.7", ratio >= 0.7),
    ]  # fmt: skip


async def _plain_client(bench: Bench, bodies: list[bytes]) -> None:
    waiting = iter(bodies)

    async def work() -> None:
        for body in waiting:
            async with bench.http.post(
                bench.engine + URL, data=body, headers={"content-type": "application/json"}
            ) as answer:
                json.loads(await answer.read())

    await asyncio.gather(*(work() for _ in range(CONCURRENT)))


def _counted_writes(bench: Bench) -> int:
    """Rows that were inserted, changed or removed so far, counted by triggers in the database itself."""
    connection = sqlite3.connect(bench.folder / "data" / "ledger.sqlite", timeout=30)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bench_writes (count INTEGER)")
        if connection.execute("SELECT count(*) FROM bench_writes").fetchone() == (0,):
            connection.execute("INSERT INTO bench_writes VALUES (0)")
            names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'bench%'"
            for (table,) in connection.execute(names).fetchall():
                for change in ("INSERT", "UPDATE", "DELETE"):
                    connection.execute(
                        f"CREATE TRIGGER bench_{table}_{change} AFTER {change} ON {table}"
                        " BEGIN UPDATE bench_writes SET count = count + 1; END"
                    )
        (found,) = connection.execute("SELECT count FROM bench_writes").fetchone()
    connection.close()
    return int(found)


async def validation(bench: Bench) -> list[Row]:
    """50,000 lines, 200 MB: from the batch's creation to its first requests."""
    size = 200 * 1000 * 1000 // 50_000 - 120
    pid = bench.service.pid
    content = (line(number, size) for number in range(50_000))
    await bench.ask("list_files", "GET", "/v1/files?limit=1")
    made = await bench.batch(content)
    reset_peak([pid])
    before = usage([pid])
    await bench.until(made, "in_progress")
    cpu = usage([pid]).cpu_seconds - before.cpu_seconds
    memory = (peak_bytes([pid]) - before.rss_bytes) / MIB
    await bench.ask("cancel_batch", "POST", f"/v1/batches/{made['id']}/cancel")
    return [
        Row("50,000 lines, 200 MB validated: CPU", f"{cpu:.1f} s", "< 10 s", cpu < 10),
        Row("memory added meanwhile", f"{memory:.1f} MiB", "< 64 MiB", memory < 64),
    ]


async def interface(bench: Bench) -> list[Row]:
    """One client, one request after the other, on both databases; then ten thousand files, page by page."""
    with postgres() as url, tempfile.TemporaryDirectory(prefix="bench-postgres-") as folder:
        other = Bench(Path(folder), bench.http, url)
        try:
            await other.ready()
            named = {"SQLite": bench, "PostgreSQL": other}
            rows = await _one_client(named)
            for name, one in named.items():
                rows.append(await _pages(name, one))
            return rows
        finally:
            other.stop()


async def _one_client(benches: Mapping[str, Bench]) -> list[Row]:
    """Alternately, and beside them a plain handler of the same library, for what client and machine cost."""
    (plain, *_) = (one.plain for one in benches.values())
    found: dict[str, list[float]] = {name: [] for name in ("plain", *benches)}
    ids = {name: (await one.upload(pieces(10), "x.bin", "user_data"))["id"] for name, one in benches.items()}
    for _ in range(ROUNDS):
        for name, one in benches.items():
            found[name] += [await _timed(one, "retrieve_file", f"/v1/files/{ids[name]}") for _ in range(_REQUESTS)]
        found["plain"] += [await _plain_timed(_http(benches), f"{plain}/v1/files") for _ in range(_REQUESTS)]
    p50 = {name: statistics.median(times) * 1000 for name, times in found.items()}
    return [
        Row(f"retrieve a file on {name}, one client: p50 ({p50[name] / p50['plain']:.1f} times that of a plain aiohttp"
            " handler with a constant answer)", f"{p50[name]:.1f} ms", "< 5 ms", p50[name] < 5)
        for name in benches
    ]  # fmt: skip


def _http(benches: Mapping[str, Bench]) -> aiohttp.ClientSession:
    """The session that they share."""
    return next(iter(benches.values())).http


async def _timed(bench: Bench, operation: str, path: str) -> float:
    started = time.perf_counter()
    await bench.ask(operation, "GET", path)
    return time.perf_counter() - started


async def _plain_timed(http: aiohttp.ClientSession, url: str) -> float:
    started = time.perf_counter()
    async with http.get(url) as answer:
        await answer.json()
    return time.perf_counter() - started


async def _pages(name: str, bench: Bench) -> Row:
    """All files of one caller by cursor."""
    await _insert_files(bench)
    after, pages = "", []
    while True:
        started = time.perf_counter()
        page = await bench.ask("list_files", "GET", f"/v1/files?limit=100{after}")
        pages.append((time.perf_counter() - started) * 1000)
        if not page["has_more"]:
            break
        after = f"&after={page['last_id']}"
    tenth = len(pages) // 10
    first, last = statistics.median(pages[1 : tenth + 1]), statistics.median(pages[-tenth - 1 : -1])
    return Row(
        f"{_FILES:,} files on {name} in pages of 100: the last tenth of the pages ({last:.1f} ms) against the first"
        f" ({first:.1f} ms)", f"{last / first:.2f}", "≤ 1.3", last / first <= 1.3,
    )  # fmt: skip


async def _insert_files(bench: Bench) -> None:
    rows = [
        {"id": f"file-bench{number}", "caller": "bench", "purpose": "user_data", "filename": "x", "size": 1,
         "sha256": "", "created_at": 1_700_000_000 + number}
        for number in range(_FILES)
    ]  # fmt: skip
    database = Database(bench.database)
    async with database.write() as connection:
        await connection.execute(insert(files), rows)
    await database.close()


PARTS: Final[Mapping[str, Callable[[Bench], Awaitable[list[Row]]]]] = {
    "uploads": uploads, "execution": execution, "gateway": gateway, "validation": validation, "interface": interface,
}  # fmt: skip
