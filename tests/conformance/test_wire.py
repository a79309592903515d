"""Raw HTTP, and where it is sent."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aibrix_extproc.conformance.bench import Bench
from aibrix_extproc.conformance.case import Mismatch
from aibrix_extproc.conformance.expect import expect_status
from aibrix_extproc.conformance.target import UsageError, origin_of
from aibrix_extproc.conformance.wire import parsed, received
from tests.conformance.fake import a_deployment, a_target, deployment


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads one head, answers with bytes, and closes once the client does."""
    heads: list[bytes] = []

    def serve(server: socket.socket) -> None:
        wire, _ = server.accept()
        with wire:
            heads.append(wire.recv(65_536))
            wire.sendall(answer)
            wire.shutdown(socket.SHUT_WR)
            received(wire)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/base/v1", heads
        thread.join()


def a_bench(url: str) -> Bench:
    return Bench(a_target(url, api_key="k1"), a_deployment(), 5.0)


def test_a_request_goes_out_as_it_is() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\n{}") as (url, heads):
        answer = a_bench(url).send("POST", "//v1/x%2Fy?q", b"abc", {"x-b": "c"})
    assert (answer.status, answer.all("x-a"), answer.json()) == (200, ["1", "2"], {})
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "POST //base/v1/x%2Fy?q HTTP/1.1"
    assert {"authorization: Bearer k1", "x-b: c", "content-length: 3"} <= set(lines)


def test_a_connection_serves_several_requests() -> None:
    reply = (200, {"connection": "keep-alive"}, b"{}")
    with deployment(lambda method, path: reply) as url, a_bench(url).line() as line:
        assert [line.ask("GET", "/v1/models", {}).status for _ in range(2)] == [200, 200]
        assert line.is_open
    with deployment(lambda method, path: (200, {}, b"{}")) as url, a_bench(url).line() as line:
        line.ask("GET", "/v1/models", {})
        assert not line.is_open


def test_a_body_is_not_sent_on_once_the_answer_is_there() -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100_000):
            sent += 1
            yield b"x" * 10_000

    with answering(b"HTTP/1.1 413 No\r\ncontent-length: 0\r\n\r\n") as (url, _):
        assert a_bench(url).send("POST", "/v1/x", pieces()).status == 413
    assert sent < 100_000


def test_a_body_cut_short_is_no_answer() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}") as (url, _),
        pytest.raises(Exception, match="IncompleteRead"),
    ):
        a_bench(url).send("GET", "/v1/models")


def test_a_raw_conversation_is_read_to_its_end() -> None:
    reply = b"HTTP/1.0 400 Bad\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    with answering(reply) as (url, heads):
        bench = a_bench(url)
        answer = bench.talk(bench.head("GET", "/v1/x", "1.0", x_a="b"))
    assert (answer.status, answer.header("x-a"), answer.body) == (400, "1", b"{}")
    assert heads[0].startswith(b"GET /base/v1/x HTTP/1.0\r\nhost: 127.0.0.1:")


@pytest.mark.parametrize("reply", [b"", b"nonsense", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 x\r\n\r\n", b"HTTP/1.1\r\n\r\n"])
def test_what_is_no_response_is_a_mismatch(reply: bytes) -> None:
    with pytest.raises(Mismatch, match="an HTTP/1 response"):
        parsed(reply)


def test_a_wrong_status_shows_the_answer() -> None:
    with pytest.raises(Mismatch) as caught:
        expect_status(parsed(b"HTTP/1.1 500 X\r\n\r\n"), 200, 204)
    assert (caught.value.expected, caught.value.came) == ("status 200 or 204", "500 no content-type: (empty body)")


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix", "authority"),
    [("http://h/v1", "h", 80, "", "h"), ("https://h/v1/", "h", 443, "", "h"),
     ("http://h:8080/a/b/v1", "h", 8080, "/a/b", "h:8080"), ("http://[::1]:9/v1", "::1", 9, "", "[::1]:9")],
)  # fmt: skip
def test_a_base_url_is_read(url: str, host: str, port: int, prefix: str, authority: str) -> None:
    origin = origin_of(url)
    assert (origin.host, origin.port, origin.prefix, origin.authority) == (host, port, prefix, authority)
    assert origin.base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "text"),
    [("ftp://h/v1", "must look like"), ("h/v1", "must look like"), ("http:///v1", "must look like"),
     ("http://h", "must end in /v1"), ("http://h/v1?x=1", "must end in /v1"), ("http://h/v1/models", "must end in /v1"),
     ("http://u:p@h/v1", "must not hold a user"), ("http://h:x/v1", "is no URL"), ("http://[h/v1", "is no URL")],
)  # fmt: skip
def test_what_is_no_base_url_is_refused(url: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        origin_of(url)
