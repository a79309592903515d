"""Files and batches on PostgreSQL and S3, through the Gateway of the overlay `production`, asked by the SDK."""

import asyncio
import contextlib
import hashlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest

from aibrix_extproc.doctor.finding import Severity
from tests.cluster.batching import lines, started, until_whole
from tests.cluster.conftest import NAMESPACE
from tests.cluster.node import PodLife
from tests.cluster.test_doctor import until_named
from tests.production.conftest import API, PREFIX, PROCESSOR, WORKER, Production
from tests.waiting import until

pytestmark = [pytest.mark.kubernetes, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

MIB: Final = 1024 * 1024
LARGEST: Final = 512 * MIB
BUFFER: Final = 50 * MIB  # connection.bufferLimit of the ClientTrafficPolicy


async def test_sdk_runs_a_batch_on_postgresql_and_s3(production: Production) -> None:
    await production.until_ready()
    client, content = production.openai, lines(2)
    file = await client.files.create(file=("日本.jsonl", content), purpose="batch")
    assert (await client.files.content(file.id)).content == content
    stored = [one.read_bytes() for one in (production.s3.bucket / PREFIX).rglob("*") if one.is_file()]
    assert content in stored
    await until_whole(client, await started(client, 40), 40)
    assert (await client.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.retrieve(file.id)


async def test_nothing_is_degraded_and_doctor_is_silent(production: Production) -> None:
    await production.until_ready()
    for app in (PROCESSOR, API, WORKER):
        for life in production.pods(app):
            async with production.inside.get(f"http://{life.ip}:9003/readyz") as answer:
                report: dict[str, Any] = await answer.json()
            assert answer.status == 200, report
            assert not report.get("degraded"), report
    await until_named(production.cluster, set())


async def test_batch_outlives_a_worker_and_a_process_that_answers(production: Production) -> None:
    """Killed while it runs, and not started again: the others take over, and an SDK that tries again sees no error."""
    await production.until_ready()
    client = production.openai.with_options(max_retries=2)  # the SDK's own default
    batch = await started(client, 3000)

    async def runs() -> bool:
        now = await client.batches.retrieve(batch.id)
        return now.request_counts is not None and now.request_counts.completed > 250

    await until(runs, seconds=60)
    gone = [production.pods(WORKER)[0], production.pods(API)[0]]
    for life in gone:
        life.restarts = False
        life.kill()
    await until_whole(client, batch, 3000)
    for life in gone:
        await production.cluster.admin.ask("DELETE", life.path)
    await production.until_ready()


@contextlib.asynccontextmanager
async def asking(production: Production) -> AsyncIterator[list[str]]:
    """Files are stored, read and removed all the time; what failed."""
    failed: list[str] = []
    over = asyncio.Event()

    async def ask(number: int) -> None:
        while not over.is_set():
            try:
                file = await production.openai.files.create(file=(f"{number}", bytes(MIB)), purpose="user_data")
                assert len((await production.openai.files.content(file.id)).content) == MIB
                await production.openai.files.delete(file.id)
            except openai.OpenAIError as error:
                failed.append(repr(error))

    tasks = [asyncio.create_task(ask(number)) for number in range(2)]
    try:
        yield failed
    finally:
        over.set()
        await asyncio.gather(*tasks)


async def test_rollout_fails_no_request_and_loses_no_line(production: Production) -> None:
    await production.until_ready()
    before = {*production.pods(API), *production.pods(WORKER)}
    for life in before:  # what their `preStop` waits
        life.term_seconds = life.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert {life.term_seconds for life in production.pods(API)} == {5}

    def replaced() -> bool:
        return not before & {*production.pods(API), *production.pods(WORKER)}

    async with asking(production) as failed:
        batch = await started(production.openai, 3000)
        for name in (API, WORKER):
            restart = ("-n", NAMESPACE, "rollout", "restart", f"deployment/{name}")
            await asyncio.to_thread(production.cluster.plane.kubectl, *restart)
        await until(replaced, seconds=120)
        await until_whole(production.openai, batch, 3000)
    assert failed == []
    await production.until_ready()


async def test_stores_that_are_away_are_a_503_and_come_back(production: Production) -> None:
    await production.until_ready()
    kept = await production.openai.files.create(file=("kept", b"kept"), purpose="user_data")
    batch = await started(production.openai, 1000)
    production.postgres.stop(signal.SIGQUIT)
    with pytest.raises(openai.InternalServerError) as refused:
        await production.openai.files.list()
    assert refused.value.status_code == 503
    named = {(Severity.ERROR, "ready", f"Deployment {NAMESPACE}/{name}") for name in (API, WORKER)}
    pods = [life.name for name in (API, WORKER) for life in production.pods(name)]
    await until_named(
        production.cluster, named | {(Severity.ERROR, "states", f"Pod {NAMESPACE}/{pod}") for pod in pods}
    )
    await asyncio.to_thread(production.postgres.start)
    await production.until_ready()
    production.s3.stop()
    with pytest.raises(openai.InternalServerError) as refused:
        await production.openai.files.create(file=("new", bytes(MIB)), purpose="user_data")
    assert (refused.value.status_code, refused.value.code) == (503, "storage_unavailable")
    await asyncio.to_thread(production.s3.start)
    await production.until_ready()
    assert (await production.openai.files.content(kept.id)).content == b"kept"
    await until_whole(production.openai, batch, 1000)


def resident(life: PodLife) -> int:
    """Bytes of a process in memory."""
    assert life.process is not None
    (line,) = [
        one
        for one in Path(f"/proc/{life.process.pid}/status").read_text(encoding="utf-8").splitlines()
        if one.startswith("VmRSS:")
    ]
    return int(line.split()[1]) * 1024


async def allocated(production: Production) -> int:
    """What Envoy has allocated."""
    async with production.inside.get("http://127.0.0.1:19000/memory") as answer:
        return int((await answer.json())["allocated"])


async def test_largest_file_passes_envoy_and_service_in_little_memory(production: Production, tmp_path: Path) -> None:
    await production.until_ready()
    place = tmp_path / "largest"
    with place.open("wb") as file:
        file.truncate(LARGEST)
    services = production.pods(API)
    before, started_at = await allocated(production), [resident(life) for life in services]
    envoy = service = 0
    with place.open("rb") as content:
        sending = asyncio.create_task(production.openai.files.create(file=("largest", content), purpose="user_data"))
        while not sending.done():
            envoy = max(envoy, await allocated(production) - before)
            service = max(service, *(resident(life) - base for life, base in zip(services, started_at, strict=True)))
            await asyncio.sleep(0.05)
    made = await sending
    assert made.bytes == LARGEST
    assert (envoy < BUFFER * 1.2, service < 32 * MIB) == (True, True), (envoy / MIB, service / MIB)
    digest, zeros = hashlib.sha256(), hashlib.sha256()
    async with production.openai.files.with_streaming_response.content(made.id) as answer:
        async for piece in answer.iter_bytes(MIB):
            digest.update(piece)
            zeros.update(bytes(len(piece)))
    assert digest.digest() == zeros.digest()
    assert (await production.openai.files.delete(made.id)).deleted
