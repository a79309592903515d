"""`python -m benchmarks.metadata`: the metadata service against its figures; writes docs/metadata-benchmarks.md."""

import argparse
import asyncio
import datetime
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.metadata_figures import PARTS, Row
from benchmarks.metadata_service import Bench

PAGE: Final = Path("docs/metadata-benchmarks.md")


def page(rows: list[Row], load: float) -> str:
    """The page as Markdown."""
    cpus, today = len(os.sched_getaffinity(0)), datetime.datetime.now(datetime.UTC).date()
    head = (
        "# Figures of the metadata service\n\n"
        "Written by `make bench-metadata`: one process with SQLite and a folder, an engine that stands for the gateway,"
        " and the client, all on one machine; PostgreSQL, Envoy and the gateway are there where they are named. What is"
        " compared was measured alternately, three times; medians.\n\n"
        f"{today}, {platform.machine()}, {cpus} CPUs, Python {platform.python_version()}, load average"
        f" {load:.1f} when it began.\n\n| what | measured | wanted | met |\n| --- | --- | --- | --- |\n"
    )
    return head + "".join(
        f"| {row.what} | {row.measured} | {row.wanted} | {'yes' if row.met else '**no**'} |\n" for row in rows
    )


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
