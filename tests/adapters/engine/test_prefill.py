"""A prefill engine that answers in any way: its answer is read within bounds, or it is one of a few errors."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aibrix_extproc.adapters.engine.prefill import MAX_ANSWER_BYTES, PrefillClient, PrefillError, PrefillRefused
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefill import PrefillAnswer
from aibrix_extproc.core.routing.disaggregation.handover import PREFILL_REASONS

GOOD = json.dumps({"kv_transfer_params": {"remote_host": "10.0.0.9"}}).encode()


class Answering:
    """An engine that writes the same bytes to everybody."""

    def __init__(self, data: bytes | None) -> None:
        self.data = data  # None: nothing is ever written
        self.heard = b""
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = await reader.readuntil(b"\r\n\r\n")
        self.asked.set()
        if self.data is None:
            await reader.read()
            await reader.read()
            self.left.set()
        else:
            writer.write(self.data)
        writer.close()


@asynccontextmanager
async def engine(data: bytes | None) -> AsyncIterator[tuple[Answering, Endpoint]]:
    answering = Answering(data)
    async with await asyncio.start_server(answering.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield answering, Endpoint(identity="p", address=f"127.0.0.1:{port}", api_key="sk-engine")


async def send(to: Endpoint, seconds: float = 60.0) -> PrefillAnswer:
    client = PrefillClient()
    try:
        return await client.send(to, "/v1/chat/completions", b"{}", "req-1", seconds)
    finally:
        await client.close()


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\ncontent-length: {size}\r\n\r\n".encode() + body


async def test_a_good_answer_is_read_and_the_request_has_its_id_and_the_engines_key() -> None:
    async with engine(http(GOOD)) as (answering, endpoint):
        answer = await send(endpoint)
    assert json.loads(answer.transfer) == {"remote_host": "10.0.0.9"}
    heard = answering.heard.lower()
    assert b"x-request-id: req-1" in heard
    assert b"authorization: bearer sk-engine" in heard


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (http(b"[]"), "invalid"),
        (http(b"\xff\x00"), "invalid"),
        (http(b'{"kv_transfer_params":[1]}'), "invalid"),
        (http(b"{" * 10_000), "invalid"),
        (http(b" " * (MAX_ANSWER_BYTES + 1)), "too_large"),
        (http(GOOD, length=len(GOOD) + 9), "invalid"),
        (http(b"{}", "500 Oh"), "status"),
        (http(b"{}", "503 Busy"), "status"),
        (http(b"{}", "429 Slow"), "status"),
        (http(b"{}", "302 There"), "status"),
        (b"not http at all\r\n\r\n", "invalid"),
        (b"", "unreachable"),
    ],
)
async def test_a_bad_answer_is_an_error_with_a_reason(data: bytes, reason: str) -> None:
    async with engine(data) as (_, endpoint):
        with pytest.raises(PrefillError) as caught:
            await send(endpoint)
    assert str(caught.value) == reason
    assert reason in PREFILL_REASONS
    assert not isinstance(caught.value, PrefillRefused)


@pytest.mark.parametrize("status", ["400 Bad", "404 Model", "422 No"])
async def test_a_request_that_the_engine_refuses_is_not_its_failure(status: str) -> None:
    async with engine(http(b"{}", status)) as (_, endpoint):
        with pytest.raises(PrefillRefused):
            await send(endpoint)


async def test_an_engine_that_says_nothing_is_left_at_the_deadline() -> None:
    async with engine(None) as (answering, endpoint):
        with pytest.raises(PrefillError, match="timeout"):
            await send(endpoint, 0.05)
        await asyncio.wait_for(answering.left.wait(), 60.0)


async def test_a_port_where_nobody_listens_is_unreachable() -> None:
    async with engine(b"") as (_, endpoint):
        pass
    with pytest.raises(PrefillError, match="unreachable"):
        await send(endpoint)


async def test_a_cancelled_call_closes_its_connection() -> None:
    async with engine(None) as (answering, endpoint):
        task = asyncio.create_task(send(endpoint))
        await asyncio.wait_for(answering.asked.wait(), 60.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(answering.left.wait(), 60.0)
