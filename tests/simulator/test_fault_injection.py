import asyncio
import contextlib
import time
from typing import Any

import aiohttp
import pytest

from aibrix_extproc.simulator.server import Simulator
from tests.simulator.conversation import HELLO, STREAM, chat_url, events, post
from tests.waiting import until


async def test_reset_before_headers_drops_the_connection(sim: Simulator, http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientOSError):
        await post(http, chat_url(sim), HELLO, {"x-sim-fault": "reset-before-headers"})
    assert (await post(http, chat_url(sim), HELLO))[0] == 200


@pytest.mark.parametrize("fault", ["reset-mid-stream;after=3", "close-mid-stream;after=3;framing=broken"])
async def test_broken_stream_keeps_what_came_before(sim: Simulator, http: aiohttp.ClientSession, fault: str) -> None:
    received = b""
    async with http.post(chat_url(sim), json=STREAM, headers={"x-sim-fault": fault}) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientError):  # noqa: PT012
            async for piece in response.content.iter_any():
                received += piece
    assert len(events(received)) == 3
    await until(lambda: not sim.engine.scheduler.running)
    assert sim.engine.metrics.value("request_success", finished_reason="abort") == 1


async def test_clean_close_ends_the_body_without_finishing(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(chat_url(sim), json=STREAM, headers={"x-sim-fault": "close-mid-stream;after=2"}) as response:
        found = events(await response.read())
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None, None]


@pytest.mark.parametrize("fault", ["reset-mid-stream", "close-mid-stream"])
async def test_whole_answer_broken_in_the_middle_raises(
    sim: Simulator, http: aiohttp.ClientSession, fault: str
) -> None:
    with pytest.raises(aiohttp.ClientError):
        await post(http, chat_url(sim), HELLO, {"x-sim-fault": fault})


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("A", {"error": {"message": "no", "type": "InternalServerError", "param": None, "code": 500}}),
        ("B", {"detail": "no"}),
        ("C", {"error": "no"}),
        ("D", {"type": "error", "error": {"type": "api_error", "message": "no"}}),
        ("E", {"message": "no", "id": "simulated"}),
        ("F", {"error": "no"}),
    ],
)
async def test_status_fault_answers_in_the_shape(
    sim: Simulator, http: aiohttp.ClientSession, shape: str, body: Any
) -> None:
    fault = f"status;code=500;message=no;shape={shape}"
    assert await post(http, chat_url(sim), HELLO, {"x-sim-fault": fault}) == (500, body)


async def test_status_fault_in_shape_g_is_plain_text(sim: Simulator, http: aiohttp.ClientSession) -> None:
    fault = {"x-sim-fault": "status;code=503;shape=G;message=go away;retry_after=7"}
    async with http.post(chat_url(sim), json=HELLO, headers=fault) as response:
        assert (response.status, response.content_type) == (503, "text/plain")
        assert response.headers["Retry-After"] == "7"
        assert await response.text() == "go away"


async def test_html_502_is_html(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(chat_url(sim), json=HELLO, headers={"x-sim-fault": "html-502"}) as response:
        assert (response.status, response.content_type) == (502, "text/html")
        assert "<html>" in await response.text()


async def test_malformed_json_cannot_be_parsed(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(chat_url(sim), json=HELLO, headers={"x-sim-fault": "malformed-json"}) as response:
        assert response.status == 200
        with pytest.raises(ValueError, match="Unterminated string"):
            await response.json()


async def test_sse_pieces_arrive_in_small_segments_and_intact(sim: Simulator, http: aiohttp.ClientSession) -> None:
    text = "né 日本 und 🎈"
    async with http.post(
        chat_url(sim), json=STREAM, headers={"x-sim-fault": "sse-pieces;bytes=5", "x-sim-text": text}
    ) as response:
        pieces = [piece async for piece, _ in response.content.iter_chunks()]
    assert max(map(len, pieces)) <= 5
    found = events(b"".join(pieces))
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in found[:-1]) == text


async def test_slow_headers_come_late(sim: Simulator, http: aiohttp.ClientSession) -> None:
    started_at = time.monotonic()
    assert (await post(http, chat_url(sim), HELLO, {"x-sim-fault": "slow-headers;seconds=0.05"}))[0] == 200
    assert time.monotonic() - started_at >= 0.05


@pytest.mark.parametrize("fault", ["stall", "stall-mid-stream;after=1"])
async def test_stall_ends_when_the_client_leaves(sim: Simulator, http: aiohttp.ClientSession, fault: str) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.08), http.post(chat_url(sim), json=STREAM, headers={"x-sim-fault": fault}) as got:
            await got.read()
    await until(lambda: not sim.engine.scheduler.running)


async def test_error_event_comes_in_the_middle_and_the_stream_ends(sim: Simulator, http: aiohttp.ClientSession) -> None:
    fault = {"x-sim-fault": "error-event;after=2;message=boom"}
    async with http.post(chat_url(sim), json=STREAM, headers=fault) as response:
        found = events(await response.read())
    assert found[2:] == [
        {"error": {"message": "boom", "type": "InternalServerError", "param": None, "code": 500}},
        "[DONE]",
    ]


async def test_first_event_error_is_the_whole_stream(sim: Simulator, http: aiohttp.ClientSession) -> None:
    async with http.post(chat_url(sim), json=STREAM, headers={"x-sim-fault": "first-event-error"}) as response:
        assert response.status == 200
        found = events(await response.read())
    assert len(found) == 2
    assert found[0]["error"]["code"] == 500


@pytest.mark.slow
async def test_refused_connections_come_back(sim: Simulator, http: aiohttp.ClientSession) -> None:
    fault = {"fault": "refuse-connections", "seconds": 2.0}
    async with http.put(f"{sim.url}/sim/faults", json=fault) as response:
        assert response.status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(http, chat_url(sim), HELLO)

    async def status() -> int | None:
        with contextlib.suppress(aiohttp.ClientConnectorError):
            return (await post(http, chat_url(sim), HELLO))[0]
        return None

    assert await until(status, "connections are taken again") == 200


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"])
async def test_refused_connections_leave_no_half_read_request_waiting(sim: Simulator, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", sim.port)
    writer.write(sent)
    await writer.drain()
    await asyncio.sleep(0.01)  # whatever the engine has read of it by now, the connection must end
    sim.refuse_connections(60.0)
    async with asyncio.timeout(30):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("fault", ["crash", "crash-mid-stream;after=2"])
async def test_crash_takes_listener_and_connections(sim: Simulator, http: aiohttp.ClientSession, fault: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        async with http.post(chat_url(sim), json=STREAM, headers={"x-sim-fault": fault}) as response:
            await response.read()
    with pytest.raises(aiohttp.ClientConnectorError):
        await post(http, chat_url(sim), HELLO)


async def test_planned_fault_hits_the_next_n_requests_of_its_path(sim: Simulator, http: aiohttp.ClientSession) -> None:
    plan = {"fault": "status", "code": 503, "count": 2, "path": "/v1/chat"}
    async with http.put(f"{sim.url}/sim/faults", json=plan) as response:
        assert response.status == 200
    async with http.get(f"{sim.url}/v1/models") as response:
        assert response.status == 200
    assert [(await post(http, chat_url(sim), HELLO))[0] for _ in range(3)] == [503, 503, 200]


async def test_planned_fault_without_a_path_spares_scrapes(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await (await http.put(f"{sim.url}/sim/faults", json={"fault": "html-502", "count": 1})).read()
    async with http.get(f"{sim.url}/metrics") as response:
        assert response.status == 200
    async with http.post(chat_url(sim), json=HELLO) as response:
        assert response.status == 502


async def test_deleted_faults_no_longer_happen(sim: Simulator, http: aiohttp.ClientSession) -> None:
    await (await http.put(f"{sim.url}/sim/faults", json=[{"fault": "html-502"}])).read()
    await (await http.delete(f"{sim.url}/sim/faults")).read()
    assert (await post(http, chat_url(sim), HELLO))[0] == 200


@pytest.mark.parametrize("fault", ["nonsense", "stall;bytes=3", "stall;seconds=x", "stall;seconds=-1", "stall;seconds"])
async def test_unknown_fault_is_refused(sim: Simulator, http: aiohttp.ClientSession, fault: str) -> None:
    status, body = await post(http, chat_url(sim), HELLO, {"x-sim-fault": fault})
    assert status == 400
    assert body["error"]["message"].startswith("x-sim-fault: ")


@pytest.mark.parametrize("plan", [None, {"fault": "x"}, {"fault": "stall", "count": 0}, {"fault": "stall", "path": 1}])
async def test_unknown_plan_is_refused(sim: Simulator, http: aiohttp.ClientSession, plan: Any) -> None:
    async with http.put(f"{sim.url}/sim/faults", json=plan) as response:
        assert response.status == 400
