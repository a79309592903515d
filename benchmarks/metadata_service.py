"""The metadata service as the benchmarks start it and ask it, and what they send."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Final

import aiohttp

from aibrix_extproc.core.access.signed_caller import SignedCaller, sign
from aibrix_extproc.core.openai.contract.headers import SIGNED_CALLER
from benchmarks.processes import LOOPBACK, Started, free_port

MIB: Final = 1024 * 1024
KEY: Final = b"k" * 32
URL: Final = "/v1/chat/completions"
_PIECE: Final = os.urandom(256 * 1024)


class Bench:
    """The service, an engine that stands for the gateway, and a plain handler; one folder for all.

    `database`: its URL, for a PostgreSQL; SQLite in the folder without it.
    """

    def __init__(self, folder: Path, http: aiohttp.ClientSession, database: str | None = None) -> None:
        self.folder = folder
        self.http = http
        self._processes: list[Started] = []
        self.engine = self._peer("engine")
        self.plain = self._peer("plain", str(folder))
        (folder / "keys").write_bytes(KEY)
        port, admin = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        self.database = database or f"sqlite:///{folder / 'data' / 'ledger.sqlite'}"
        service = Started("metadata", (
            sys.executable, "-m", "aibrix_extproc", "metadata", "--data", str(folder / "data"), "--note-keys",
            str(folder / "keys"), "--gateway-url", self.engine, "--metadata-port", str(port),
            "--admin-port", str(admin), *(("--database", database) if database else ()),
        ), folder / "metadata.log")  # fmt: skip
        self._processes.append(service)
        self.service = service
        self.plain_pid = self._processes[1].pid
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
        headers = {SIGNED_CALLER: sign(KEY, SIGNED_CALLER, statement)}
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
        wanted = {"input_file_id": file["id"], "endpoint": URL, "completion_window": "24h"}
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
    return json.dumps({"custom_id": f"c-{number}", "method": "POST", "url": URL, "body": body}).encode() + b"\n"


async def pieces(size: int) -> AsyncIterator[bytes]:
    """A content of that size."""
    for start in range(0, size, len(_PIECE)):
        yield _PIECE[: min(len(_PIECE), size - start)]
