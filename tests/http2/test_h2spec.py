"""h2spec, a conformance suite for HTTP/2, against the lean connection and the gRPC server on top of it."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from aibrix_extproc.http2.call_table import CallTable
from aibrix_extproc.http2.connection import Connection
from aibrix_extproc.http2.header_blocks import Headers
from aibrix_extproc.http2.limits import ConnectionLimits
from aibrix_extproc.http2.protocol import ServerProtocol
from aibrix_extproc.http2.server import GrpcServer
from aibrix_extproc.http2.streams import Stream
from tests.http2.rig import QUICK, serving

_WRONG_LENGTH: Final = 'Sends a HEADERS frame with the "content-length" header field which does not equal'
# gRPC answers what h2spec asks (a GET, a POST without a gRPC content type) before the request has ended, so these never
# see what they wait for: a DATA frame, or an open stream to break. The plain server below passes them.
ANSWERED_TOO_EARLY: Final = frozenset(
    {
        "Sends a WINDOW_UPDATE frame on half-closed (remote) stream",
        "Sends a PRIORITY frame on half-closed (remote) stream",
        "Sends HEADERS frames that causes their advertised concurrent stream limit to be exceeded",
        "Sends a WINDOW_UPDATE frame with a flow control window increment of 0 on a stream",
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
        "Sends a second HEADERS frame without the END_STREAM flag",
        "Sends a HEADERS frame that contains a pseudo-header field as trailers",
        f"{_WRONG_LENGTH} the DATA frame payload length",
        f"{_WRONG_LENGTH} the sum of the multiple DATA frames payload length",
    }
)


class _Page:
    """Answers with a page once the request has ended."""

    def __init__(self, connection: Connection, stream: Stream) -> None:
        self._connection = connection
        self._stream = stream

    def received(self, data: bytes, start: int, end: int, *, ended: bool) -> None:
        if ended:
            self._connection.send_headers(self._stream, b"\x88")
            self._connection.send_data(self._stream, b"a page")
            self._connection.send_end(self._stream, b"\x00\x04last\x03yes")

    def stream_closed(self, code: int) -> None:
        pass


class _PlainCalls(CallTable):
    """A web server, as h2spec expects one."""

    def opened(self, stream: Stream, headers: Headers, *, ended: bool) -> None:
        stream.receiver = _Page(self.connection, stream)
        if ended:
            stream.receiver.received(b"", 0, 0, ended=True)


class _PlainServer(GrpcServer):
    def register(self, protocol: ServerProtocol) -> CallTable:
        self._protocols.add(protocol)
        return _PlainCalls(
            {}, self.loop, protocol.flush_soon, ConnectionLimits(concurrent_streams=100), max_message_bytes=1
        )


@pytest.fixture(name="h2spec")
def find_h2spec() -> str:
    found = shutil.which("h2spec") or shutil.which(str(Path.home() / "go" / "bin" / "h2spec"))
    if found is None:
        pytest.skip("needs h2spec: go install github.com/summerwind/h2spec/cmd/h2spec@latest")
    return found


@pytest.fixture(name="plain_port")
async def serve_plainly() -> AsyncIterator[int]:
    server = _PlainServer({}, max_message_bytes=1, timeouts=QUICK)
    yield await server.start("127.0.0.1", 0)
    await server.drain(0.0)


async def failures(h2spec: str, port: int) -> tuple[int, frozenset[str]]:
    """How many cases passed, and the names of those that did not."""
    process = await asyncio.create_subprocess_exec(
        h2spec, "--host", "127.0.0.1", "--port", str(port), "--timeout", "1", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    text = out.decode()
    passed = re.search(r"(\d+) tests, (\d+) passed", text)
    assert passed, text
    _, _, listed = text.partition("Failures:")
    return int(passed[2]), frozenset(re.findall(r"\u00d7 \d+: (.*\S)", listed))


@pytest.mark.slow
async def test_connection_passes_all_of_h2spec(h2spec: str, plain_port: int) -> None:
    passed, failed = await failures(h2spec, plain_port)
    assert not failed
    assert passed >= 130


@pytest.mark.slow
async def test_grpc_server_fails_only_what_it_answers_before_h2spec_has_ended_its_request(h2spec: str) -> None:
    async with serving() as served:
        passed, failed = await failures(h2spec, served.port)
    assert failed <= ANSWERED_TOO_EARLY
    assert passed >= 130
