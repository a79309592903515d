"""A batch and a plain client through a real gateway: Envoy, the gateway, the service and a simulated engine of 1 ms."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from benchmarks.processes import LOOPBACK, Started, free_port

CONCURRENT: Final = 64  # requests of the plain client at once
_ENGINE: Final = "--prefill-base-ms 1 --output-tokens 40 --record-requests 0"
_WARM_UP: Final = 500
_READY_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.2  # each look at the batch costs the service a query
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests in a second, medians of the rounds: of a batch from its first line on, and of a plain client."""

    batch: float
    plain: float


class Gateway:
    """What `aibrix-extproc local` starts, with these options for its engines."""

    def __init__(self, folder: Path, http: aiohttp.ClientSession, engines: Sequence[str]) -> None:
        self.http = http
        port, envoy_port = free_port(), free_port()
        self.url = f"http://{LOOPBACK}:{port}/v1"
        self._process = Started("the gateway", (
            sys.executable, "-m", "aibrix_extproc", "local", "--port", str(port), "--envoy-admin-port",
            str(envoy_port), "--admin-port", "0", *engines, "--data", str(folder / "gateway-data"), "--run-dir",
            str(folder / "gateway-run"),
        ), folder / "gateway.log")  # fmt: skip

    def stop(self) -> None:
        """End all processes."""
        self._process.stop()

    async def ready(self, body: bytes) -> None:
        """Wait until a chat and a list of files are answered. Raises RuntimeError with the end of the log."""
        end = time.monotonic() + _READY_SECONDS
        while not (await self._answers("GET", "/files") and await self._answers("POST", "/chat/completions", body)):
            self._process.check()
            if time.monotonic() > end:
                raise RuntimeError(f"the gateway is not ready: {self._process.last_words()}")
            await asyncio.sleep(0.1)

    async def _answers(self, method: str, path: str, body: bytes | None = None) -> bool:
        headers = {"content-type": "application/json"}
        try:
            async with self.http.request(method, self.url + path, data=body, headers=headers) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """The JSON answer. Raises RuntimeError if it is an error."""
        async with self.http.request(method, self.url + path, **more) as answer:
            found = await answer.json()
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {answer.status} {found}")
            return found

    async def batch(self, lines: Sequence[bytes]) -> float:
        """Run these lines as a batch; lines in a second, without its validation."""
        made = await self.begin(lines)
        await self.until(made, {"in_progress", "finalizing"} | ENDED, 0.02)
        started = time.perf_counter()
        done = await self.until(made, ENDED, _PAUSE_SECONDS)
        seconds = time.perf_counter() - started
        if done["request_counts"]["completed"] != len(lines):
            raise RuntimeError(done)
        return len(lines) / seconds

    async def begin(self, lines: Sequence[bytes]) -> Any:
        """A new batch of these lines."""
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        form.add_field("file", b"".join(lines), filename="in.jsonl", content_type="application/octet-stream")
        file = await self.ask("POST", "/files", data=form)
        wanted = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        return await self.ask("POST", "/batches", json=wanted)

    async def until(self, batch: Any, statuses: set[str] | frozenset[str], pause: float) -> Any:
        """Look until it has one of these."""
        while True:
            found = await self.ask("GET", f"/batches/{batch['id']}")
            if found["status"] in statuses:
                return found
            await asyncio.sleep(pause)

    async def plain(self, bodies: Sequence[bytes]) -> float:
        """Send these requests as a plain asyncio client; requests in a second."""
        waiting = iter(bodies)

        async def work() -> None:
            for body in waiting:
                await self.ask("POST", "/chat/completions", data=body, headers=headers)

        headers = {"content-type": "application/json"}
        started = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(CONCURRENT)))
        return len(bodies) / (time.perf_counter() - started)


async def rates(folder: Path, http: aiohttp.ClientSession, lines: Sequence[bytes], rounds: int) -> Rates:
    """Both, alternately, so many times; all lines are chats of one model."""
    bodies = [json.dumps(json.loads(one)["body"]).encode() for one in lines]
    model = json.loads(bodies[0])["model"]
    gateway = Gateway(folder, http, ("--model", model, "--engines", "1", f"--simulate={_ENGINE}"))
    try:
        await gateway.ready(bodies[0])
        await gateway.batch(lines[:_WARM_UP])
        await gateway.plain(bodies[:_WARM_UP])
        pairs = [(await gateway.batch(lines), await gateway.plain(bodies)) for _ in range(rounds)]
    finally:
        gateway.stop()
    return Rates(statistics.median(one for one, _ in pairs), statistics.median(one for _, one in pairs))
