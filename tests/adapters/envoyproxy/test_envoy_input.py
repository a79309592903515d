"""What a real Envoy makes of odd input, and what it writes about requests."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.envoyproxy.rig import LIMIT, RunningEnvoy, ScriptedEngine, ScriptedProcessor, known, running_envoy
from tests.waiting import until

pytestmark = [pytest.mark.envoy, pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
HEAD = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        pytest.param(HEAD + b"x-big: " + b"z" * 1_000_000 + b"\r\n\r\n", 431, "headers_too_large", id="header_of_1_mb"),
        pytest.param(b"GET /" + b"q" * 100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 431, "headers_too_large", id="url"),
        pytest.param(b"GARBAGE\r\n\r\n", 400, None, id="no_request_line"),
        pytest.param(HEAD + b"bad header\r\n\r\n", 400, None, id="no_colon"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, None, id="no_host"),
        pytest.param(HEAD + b"content-length: x\r\n\r\n", 400, None, id="length_is_no_number"),
        pytest.param(HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", 400, None, id="two_lengths"),
        pytest.param(HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n", 426, "upgrade_refused", id="upgrade"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", 404, None, id="asterisk"),
        pytest.param(b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 404, None, id="connect"),
    ],
)
async def test_err_17_refused_input_gets_an_openai_error(
    envoy: RunningEnvoy, request_bytes: bytes, status: int, code: str | None
) -> None:
    answer = await envoy.raw(request_bytes)
    assert (answer.status, answer.error["code"]) == (status, code)


async def test_err_17_request_that_never_ends_gets_a_408(tmp_path: Path, processor: ScriptedProcessor) -> None:
    async with running_envoy(tmp_path, processor, request_timeout=0.5) as envoy:
        answer = await envoy.raw(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{")
    assert (answer.status, answer.error["code"]) == (408, "request_timeout")


@pytest.mark.parametrize("chunked", [False, True])
async def test_err_17_body_over_the_limit_gets_a_413(envoy: RunningEnvoy, chunked: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b"x" * 100_000

    answer = await envoy.ask(data=pieces() if chunked else io.BytesIO(b"x" * 7_000_000))
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert str(LIMIT) in answer.error["message"]


async def test_body_of_5_mb_arrives_whole(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        envoy.processor.place = engine.address
        answer = await envoy.ask(data=io.BytesIO(b"x" * 5_000_000))
    assert answer.status == 200
    bodies = [one.request_body.body for one in envoy.processor.messages if one.HasField("request_body")]
    assert [len(body) for body in bodies] == [5_000_000]


async def test_http10_and_h2c_are_understood(envoy: RunningEnvoy) -> None:
    async with ScriptedEngine().running() as engine:
        await known(envoy, engine)
        envoy.processor.place = engine.address
        old = await envoy.raw(b"GET /v1/models HTTP/1.0\r\n\r\n")
    assert old.status == 200
    # The preface of HTTP/2 with an empty SETTINGS frame is answered by SETTINGS (type 4), not by an HTTP/1 error.
    reader, writer = await asyncio.open_connection(envoy.spec.listen.host, envoy.spec.listen.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0")
    frame = await asyncio.wait_for(reader.readexactly(9), 60)
    writer.close()
    assert frame[3] == 4


@pytest.mark.parametrize("path", ["/v1/../metrics", "/v1/models/..%2f..%2fmetrics", "//v1//models/", "/v1/a%2Fb"])
async def test_path_arrives_at_the_processor_as_it_was_sent(envoy: RunningEnvoy, path: str) -> None:
    await envoy.raw(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
    headers = {one.key: one.raw_value for one in envoy.processor.messages[0].request_headers.headers.headers}
    assert headers[":path"] == path.encode()


async def test_access_log_holds_no_query_and_no_key(envoy: RunningEnvoy) -> None:
    assert envoy.spec.access_log is not None
    answer = await envoy.ask("/v1/models?secret=1", method="GET", headers={"authorization": "Bearer sk-secret"})
    access_log = envoy.spec.access_log

    async def written() -> bool:
        return answer.headers["x-request-id"] in access_log.read_text()

    await until(written, "the access log line")
    (said,) = [line for line in access_log.read_text().splitlines() if answer.headers["x-request-id"] in line]
    line = json.loads(said)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/models", 503)
    assert "secret" not in access_log.read_text()


async def test_healthy_envoy_says_nothing_on_its_own_log(envoy: RunningEnvoy) -> None:
    assert "deprecated" not in envoy.log.read_text()
