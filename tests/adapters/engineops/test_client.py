"""One engine, one operation: its answer as it is, or a failure in words, in time and of bounded size."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from aibrix_extproc.adapters.engine.client import engine_session
from aibrix_extproc.adapters.engineops.client import EngineOps
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.operations.agreement import EngineAnswer
from aibrix_extproc.core.operations.requests import request_of
from aibrix_extproc.core.operations.table import ENGINE_OPERATIONS

Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def engine(script: Script, api_key: str | None = None) -> AsyncIterator[Endpoint]:
    """An engine that gets one request on each connection, and does with it what the script says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower()[:15] == b"content-length:"), 0
            )
            await script(head + await reader.readexactly(length), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Endpoint(f"e-{port}", f"127.0.0.1:{port}", api_key=api_key)
    finally:
        server.close()


def saying(*pieces: bytes) -> Script:
    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return script


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}connection: close\r\n\r\n".encode() + body


async def ask(
    endpoint: Endpoint, operation: str = "version", seconds: float = 60.0, **parameters: object
) -> EngineAnswer:
    row = ENGINE_OPERATIONS[operation]
    async with engine_session() as session:
        return await EngineOps(session).call(endpoint, row, request_of(row, parameters), seconds)


async def test_request_has_parameters_and_the_engines_key_and_the_answer_is_as_it_is() -> None:
    seen: list[bytes] = []

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(answer(b"done", "418 Odd", "Content-Type: text/odd\r\n"))

    async with engine(script, api_key="engine-key") as endpoint:
        found = await ask(endpoint, "load_lora_adapter", lora_name="sql", lora_path="/a")
    assert (found.status, found.content_type, found.body, found.failure) == (418, "text/odd", b"done", "")
    assert seen[0].startswith(b"POST /v1/load_lora_adapter HTTP/1.1\r\n")
    assert b"Bearer engine-key" in seen[0]
    assert seen[0].endswith(b'{"lora_name": "sql", "lora_path": "/a"}')


async def test_query_reaches_the_engine_and_no_key_is_made_up() -> None:
    seen: list[bytes] = []

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request)
        writer.write(answer(b"{}"))

    async with engine(script) as endpoint:
        await ask(endpoint, "wake_up", tags=["weights", "kv_cache"])
    assert seen[0].startswith(b"POST /wake_up?tags=weights&tags=kv_cache HTTP/1.1\r\n")
    assert b"uthorization" not in seen[0]


async def test_runtime_sidecar_loads_adapters_and_nothing_else_goes_there() -> None:
    seen: list[bytes] = []

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(request.partition(b" HTTP")[0])
        writer.write(answer(b"{}"))

    async with engine(script) as own, engine(script) as beside:
        both = replace(own, runtime=beside.address)
        loaded = await ask(both, "load_lora_adapter", lora_name="sql", lora_path="/a")
        await ask(both, "load_lora_adapter", lora_name="sql", lora_path="/a", load_inplace=True)
        await ask(both, "sleep")
    assert seen == [b"POST /v1/lora_adapter/load", b"POST /v1/load_lora_adapter", b"POST /sleep"]
    assert loaded.address == own.address


CUT = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (saying(), "it closed the connection without an answer; it may have done it"),
        (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "its answer is not valid HTTP"),
        (saying(b"\x00" * 100), "its answer is not valid HTTP"),
        (saying(CUT), "its answer broke off"),
        (saying(answer(b"x" * 70_000)), "its answer is over 65536 bytes"),
        (saying(answer(b"", "302 Found", "Location: http://169.254.169.254/\r\n")), "it answers with a redirect (302)"),
    ],
    ids=["closes", "no-http", "zeros", "cut", "large", "redirects"],
)
async def test_failure_is_said_in_words(script: Script, failure: str) -> None:
    async with engine(script) as endpoint:
        found = await ask(endpoint)
    assert (found.failure, found.status, found.is_good) == (failure, 0, False)


async def test_engine_that_is_not_there_is_a_failure() -> None:
    async with engine(saying()) as endpoint:
        pass
    assert (await ask(endpoint)).failure == "connection refused"


async def test_engine_that_hangs_is_given_up_at_the_deadline() -> None:
    hanging = asyncio.Event()

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
        await hanging.wait()

    async with engine(script) as endpoint:
        found = await ask(endpoint, seconds=0.05)
        hanging.set()
    assert found.failure == "no answer within 0.05 s"
    assert found.seconds >= 0.05


async def test_content_type_that_is_no_token_is_dropped() -> None:
    async with engine(saying(answer(b"{}", headers="Content-Type: " + "x" * 200 + "\r\n"))) as endpoint:
        assert (await ask(endpoint)).content_type == ""


async def test_engine_gets_serial_operations_one_by_one_and_others_at_once() -> None:
    running, most, let_go = 0, {"serial": 0, "free": 0}, asyncio.Event()

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal running
        kind = "serial" if b"lora" in request else "free"
        running += 1
        most[kind] = max(most[kind], running)
        if kind == "free" and running == 3:
            let_go.set()
        await (let_go.wait() if kind == "free" else asyncio.sleep(0.01))
        running -= 1
        writer.write(answer(b"{}"))

    load, version = ENGINE_OPERATIONS["load_lora_adapter"], ENGINE_OPERATIONS["version"]
    async with engine(script) as endpoint, engine_session() as session:
        client = EngineOps(session)
        request = request_of(load, {"lora_name": "a", "lora_path": "/a"})
        loads = await asyncio.gather(*(client.call(endpoint, load, request, 60.0) for _ in range(3)))
        free = await asyncio.gather(*(client.call(endpoint, version, request_of(version, {}), 60.0) for _ in range(3)))
    assert all(one.is_good for one in (*loads, *free))
    assert most == {"serial": 1, "free": 3}


async def test_wait_for_a_turn_counts_for_the_deadline_and_frees_the_turn() -> None:
    hanging = asyncio.Event()

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        await hanging.wait()
        writer.write(answer(b"{}"))

    sleep = ENGINE_OPERATIONS["sleep"]
    async with engine(script) as endpoint, engine_session() as session:
        client = EngineOps(session)
        first = asyncio.create_task(client.call(endpoint, sleep, request_of(sleep, {}), 60.0))
        second = await client.call(endpoint, sleep, request_of(sleep, {}), 0.05)
        assert second.failure == "no answer within 0.05 s"
        hanging.set()
        assert (await first).is_good
        assert (await client.call(endpoint, sleep, request_of(sleep, {}), 60.0)).is_good


async def test_reset_that_blocks_are_held_for_is_asked_again() -> None:
    answers = [b'{"success":false}', b'{"success":false}', b'{"success":true}']

    async def script(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(answers.pop(0)))

    async with engine(script) as endpoint:
        found = await ask(endpoint, "reset_prefix_cache")
    assert found.body == b'{"success":true}'
    assert not answers


async def test_reset_that_never_succeeds_is_the_engines_answer_at_the_deadline() -> None:
    async with engine(saying(answer(b'{"success":false}'))) as endpoint:
        found = await ask(endpoint, "reset_prefix_cache", seconds=1.5)
    assert (found.body, found.failure) == (b'{"success":false}', "")
