"""Clients that stop reading, or read slowly: Envoy's memory is bounded, and who still reads gets everything."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from tests.dataplane.engines import EngineSpec
from tests.dataplane.raw import JSON, LOOPBACK, send
from tests.dataplane.scripted import scripted
from tests.dataplane.stack import METERED, Stack, running
from tests.dataplane.test_strange_engines import SSE, chunk, chunked
from tests.waiting import eventually

pytestmark = pytest.mark.slow

MIB: Final = 1 << 20
HEAP: Final = 300 * MIB
DONE: Final = b"data: [DONE]\n\n"
EVENTS: Final = chunk("hello " * 20) * 40
PIECES: Final = 3000  # 32 MiB together
BODY: Final = json.dumps({"model": "odd-m", "messages": [], "stream": True}).encode()
STALLED: Final = 20
HEAD: Final[dict[str, str]] = {**JSON, "x-script": "flood", "content-length": str(len(BODY))}


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with an engine that answers with 32 MiB at once, and a time for stalled readers that a test can wait."""
    stack = Stack(
        tmp_path_factory.mktemp("flooded"),
        (EngineSpec("good", ("good-m",)),),
        serve_arguments=("--metering",),
        envoy_options=METERED | {"stalled_reader_timeout": 8, "max_heap_bytes": HEAP},
    )
    flood = chunked(SSE, *([EVENTS] * PIECES), DONE)
    with scripted({"flood": flood}) as port, running(stack) as started:
        started.adopt_engine(EngineSpec("odd", ("odd-m",)), port)
        started.write_fleet()
        started.wait_models({"good-m", "odd-m"})
        yield started


def heap(stack: Stack) -> int:
    return int(send(stack.envoy_admin_port, "GET", "/memory").json()["allocated"])


def active(stack: Stack) -> int:
    return stack.envoy_stats("^http.openai.downstream_rq_active$")["http.openai.downstream_rq_active"]


def ask_over_http_1(stack: Stack) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    connection.connect((LOOPBACK, stack.port))
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEAD.items())
    connection.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode() + BODY)
    return connection


def is_served(stack: Stack) -> bool:
    asked: dict[str, Any] = {"model": "good-m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    return stack.post("/v1/chat/completions", asked).status == 200


@pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_USER_TIMEOUT, which only Linux has")
def test_clients_that_stop_reading_over_http_1_are_cut_and_what_they_held_is_free(flooded: Stack) -> None:
    before = heap(flooded)
    clients = [ask_over_http_1(flooded) for _ in range(8)]
    eventually(lambda: heap(flooded) > before + 60 * MIB, "Envoy holds what nobody reads")
    assert is_served(flooded)
    eventually(lambda: active(flooded) <= 1, "all of them are cut")  # the one is the question itself
    eventually(lambda: heap(flooded) < before + 30 * MIB, "their memory is free")
    for client in clients:
        client.close()


def test_clients_that_stop_reading_over_http_2_are_cut_before_the_heap_is_full(flooded: Stack) -> None:
    before = heap(flooded)
    with socket.create_connection((LOOPBACK, flooded.port)) as connection:
        talk = H2Connection(H2Configuration(client_side=True))
        talk.initiate_connection()
        for _ in range(STALLED):  # 640 MiB, of 300
            stream = talk.get_next_available_stream_id()
            pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/chat/completions")]
            talk.send_headers(stream, [*pseudo, *HEAD.items()])
            talk.send_data(stream, BODY, end_stream=True)
            connection.sendall(talk.data_to_send())  # no window is ever opened again
        resets = "http.openai.downstream_rq_rx_reset|http2.tx_reset"
        eventually(lambda: sum(flooded.envoy_stats(resets).values()) > 0, "the largest streams are reset")
        assert heap(flooded) < HEAP
        assert is_served(flooded)
    eventually(lambda: heap(flooded) < before + 30 * MIB, "their memory is free")


def test_a_client_that_reads_slowly_gets_everything(flooded: Stack) -> None:
    """Longer than the time for stalled readers, with a pause now and then."""
    with ask_over_http_1(flooded) as client:
        received, began = bytearray(), time.monotonic()
        while time.monotonic() - began < 10.0:
            received += client.recv(65_536)
            time.sleep(0.05)  # this is the client's slowness, not a wait for anything
        while not received.endswith(b"0\r\n\r\n"):
            data = client.recv(1 << 20)
            assert data
            received += data
    assert received.count(b"data: ") == 40 * PIECES + 1


def test_a_body_of_the_largest_size_still_passes(flooded: Stack) -> None:
    text = "x" * (49 * MIB)
    asked = {"model": "odd-m", "messages": [{"role": "user", "content": text}], "stream": False}
    assert flooded.post_large("/v1/chat/completions", asked, x_script="flood").status == 200
