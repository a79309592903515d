"""`python -m benchmarks.metadata`: the metadata service against its figures; writes docs/metadata-benchmarks.md."""

import argparse
import asyncio
import datetime
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from benchmarks.metadata_gateway import CONCURRENT, rates
from benchmarks.processes import LOOPBACK, Started, free_port, peak_bytes, reset_peak, usage

PAGE: Final = Path("docs/metadata-benchmarks.md")
MIB: Final = 1024 * 1024
BIG_BYTES: Final = 199 * MIB
LINES: Final = 5000
ROUNDS: Final = 3
_KEY: Final = b"k" * 32
_PIECE: Final = os.urandom(256 * 1024)
_URL: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the page."""

    what: str
    measured: str
    wanted: str
    met: bool


class Bench:
    """The service, an engine that stands for the gateway, and a plain handler; one folder for all."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession) -> None:
        self.folder = folder
        self.http = http
        self._processes: list[Started] = []
        self.engine = self._peer("engine")
        self.plain = self._peer("plain", str(folder))
        (folder / "keys").write_bytes(_KEY)
        port, admin = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        service = Started("metadata", (
            sys.executable, "-m", "aibrix_extproc", "metadata", "--data", str(folder / "data"), "--note-keys",
            str(folder / "keys"), "--gateway-url", self.engine, "--metadata-port", str(port),
            "--admin-port", str(admin),
        ), folder / "metadata.log")  # fmt: skip
        self._processes.append(service)
        self.service = service
        self.ready_url = f"http://{LOOPBACK}:{admin}/readyz"

    def _peer(self, kind: str, *rest: str) -> str:
        port = free_port()
        command = (sys.executable, "-m", "benchmarks.metadata_peers", kind, str(port), *rest)
        self._processes.append(Started(kind, command, self.folder / f"{kind}.log"))
        return f"http://{LOOPBACK}:{port}"

    def stop(self) -> None:
        """End all processes."""
        for one in self._processes:
            one.stop()

    async def ready(self) -> None:
        """Wait until all serve."""
        for url in (self.ready_url, f"{self.engine}/v1/models", f"{self.plain}/x"):
            while not await self._answers(url):
                for one in self._processes:
                    one.check()
                await asyncio.sleep(0.05)

    async def _answers(self, url: str) -> bool:
        try:
            async with self.http.get(url) as answer:
                return answer.status < 500
        except aiohttp.ClientError:
            return False

    async def ask(self, operation: str, method: str, path: str, **more: Any) -> Any:
        """One signed request."""
        statement = SignedCaller("bench", "r", operation, int(time.time()) + 600)
        headers = {SIGNED_CALLER: sign(_KEY, SIGNED_CALLER, statement)}
        async with self.http.request(method, self.url + path, headers=headers, **more) as answer:
            found = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {answer.status} {found}")
            return found

    async def upload(self, content: AsyncIterator[bytes], name: str, purpose: str, url: str | None = None) -> Any:
        """Store a file here, or send the same form to another handler."""
        form = aiohttp.FormData()
        form.add_field("purpose", purpose)
        form.add_field("file", content, filename=name, content_type="application/octet-stream")
        if url is None:
            return await self.ask("create_file", "POST", "/v1/files", data=form)
        async with self.http.post(f"{url}/v1/files", data=form) as answer:
            return await answer.json()

    async def batch(self, lines: Iterable[bytes]) -> Any:
        """A new batch of these lines."""

        async def content() -> AsyncIterator[bytes]:
            kept = bytearray()
            for line in lines:
                kept += line
                if len(kept) > 256 * 1024:
                    yield bytes(kept)
                    kept.clear()
            yield bytes(kept)

        file = await self.upload(content(), "in.jsonl", "batch")
        wanted = {"input_file_id": file["id"], "endpoint": _URL, "completion_window": "24h"}
        return await self.ask("create_batch", "POST", "/v1/batches", json=wanted)

    async def until(self, batch: Any, *statuses: str, pause: float = 0.02) -> Any:
        """Look until it has one of these; each look costs the service a query."""
        while True:
            found = await self.ask("retrieve_batch", "GET", f"/v1/batches/{batch['id']}")
            if found["status"] in statuses:
                return found
            if found["status"] in ("failed", "expired", "cancelled"):
                raise RuntimeError(found)
            await asyncio.sleep(pause)


def line(number: int, size: int) -> bytes:
    """One line of a batch's input, of so many bytes and a few."""
    body = {"model": "m", "messages": [{"role": "user", "content": f"{number} " + "x" * size}]}
    return json.dumps({"custom_id": f"c-{number}", "method": "POST", "url": _URL, "body": body}).encode() + b"\n"


async def pieces(size: int = BIG_BYTES) -> AsyncIterator[bytes]:
    """A content of that size."""
    for start in range(0, size, len(_PIECE)):
        yield _PIECE[: min(len(_PIECE), size - start)]


async def uploads(bench: Bench) -> list[Row]:
    """A large file here and with a plain handler, alternately; then twenty at once."""
    pid = bench.service.pid
    await bench.upload(pieces(MIB), "warm.bin", "user_data")
    seconds: dict[str | None, list[float]] = {None: [], bench.plain: []}
    reset_peak([pid])
    before = usage([pid]).rss_bytes
    for _ in range(ROUNDS):
        for url, found in seconds.items():
            started = time.perf_counter()
            await bench.upload(pieces(), "big.bin", "user_data", url)
            found.append(time.perf_counter() - started)
    one = (peak_bytes([pid]) - before) / MIB
    ratio = statistics.median(seconds[bench.plain]) / statistics.median(seconds[None])
    rate = BIG_BYTES / MIB / statistics.median(seconds[None])
    reset_peak([pid])
    before = usage([pid]).rss_bytes
    await asyncio.gather(*(bench.upload(pieces(BIG_BYTES // 10), "x.bin", "user_data") for _ in range(20)))
    twenty = (peak_bytes([pid]) - before) / MIB
    return [
        Row("199 MB upload: memory added to the service", f"{one:.1f} MiB", "< 32 MiB", one < 32),
        Row(f"its throughput ({rate:.0f} MB/s) against a plain aiohttp handler that writes to a file, without fsync",
            f"{ratio:.2f}", "≥ 0.8", ratio >= 0.8),
        Row("20 uploads of 20 MB at once: memory added", f"{twenty:.1f} MiB", "< 640 MiB", twenty < 640),
    ]  # fmt: skip


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
                bench.engine + _URL, data=body, headers={"content-type": "application/json"}
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
    """One client, one request after the other; then ten thousand files, page by page."""
    file = await bench.upload(pieces(10), "x.bin", "user_data")
    found = [await _timed(bench, "retrieve_file", f"/v1/files/{file['id']}") for _ in range(500)]
    p50 = statistics.median(found) * 1000
    _insert_files(bench, 10_000)
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
    return [
        Row("retrieve a file, one client: p50", f"{p50:.1f} ms", "< 5 ms", p50 < 5),
        Row(f"10,000 files in pages of 100: the last tenth of the pages ({last:.1f} ms) against the first "
            f"({first:.1f} ms)", f"{last / first:.2f}", "≤ 1.3", last / first <= 1.3),
    ]  # fmt: skip


async def _timed(bench: Bench, operation: str, path: str) -> float:
    started = time.perf_counter()
    await bench.ask(operation, "GET", path)
    return time.perf_counter() - started


def _insert_files(bench: Bench, count: int) -> None:
    rows = [
        (f"file-bench{number}", "bench", "user_data", "x", 1, "", 1_700_000_000 + number) for number in range(count)
    ]
    connection = sqlite3.connect(bench.folder / "data" / "ledger.sqlite", timeout=30)
    with connection:
        names = "id, caller, purpose, filename, size, sha256, created_at"
        connection.executemany(f"INSERT INTO files ({names}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.close()


def page(rows: list[Row], load: float) -> str:
    """The page as Markdown."""
    cpus, today = len(os.sched_getaffinity(0)), datetime.datetime.now(datetime.UTC).date()
    head = (
        "# Figures of the metadata service\n\n"
        "Written by `make bench-metadata`: one process with SQLite and a folder, an engine that stands for the gateway"
        " (but where Envoy and the gateway are named), and the client, all on one machine. What is compared was"
        " measured alternately, three times; medians.\n\n"
        f"{today}, {platform.machine()}, {cpus} CPUs, Python {platform.python_version()}, load average"
        f" {load:.1f} when it began.\n\n| what | measured | wanted | met |\n| --- | --- | --- | --- |\n"
    )
    return head + "".join(
        f"| {row.what} | {row.measured} | {row.wanted} | {'yes' if row.met else '**no**'} |\n" for row in rows
    )


PARTS: Final[Mapping[str, Callable[[Bench], Awaitable[list[Row]]]]] = {
    "uploads": uploads, "execution": execution, "gateway": gateway, "validation": validation, "interface": interface,
}  # fmt: skip


async def measure(folder: Path, parts: Sequence[str]) -> list[Row]:
    """The figures of these parts."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
        bench = Bench(folder, http)
        try:
            await bench.ready()
            rows = []
            for part in parts:
                for row in await PARTS[part](bench):
                    print(f"{row.what}: {row.measured} ({row.wanted})", flush=True)
                    rows.append(row)
            return rows
        finally:
            bench.stop()


def main() -> int:
    """0: every figure is met. The page is written after a run of all parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metadata", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), help="measure these, and leave the page as it is")
    only = parser.parse_args().only
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-metadata-") as folder:
        rows = asyncio.run(measure(Path(folder), only or tuple(PARTS)))
    if not only:
        PAGE.write_text(page(rows, load), encoding="utf-8")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
