"""A peer that takes every connection of the port and keeps it idle, while an Envoy needs some: no request fails."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import Stack, running
from tests.waiting import eventually

pytestmark = pytest.mark.slow

CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
REFUSALS = "aibrix_extproc_port_refusals_total"
CONNECTIONS = 8


@pytest.fixture(name="small")
def run_small(tmp_path: Path) -> Iterator[Stack]:
    options = ("--server-max-connections", str(CONNECTIONS), "--server-max-connections-of-peer", str(CONNECTIONS))
    with running(Stack(tmp_path, (EngineSpec("chat", ("chat",)),), serve_arguments=options)) as stack:
        yield stack


def hoard(port: int, host: str) -> socket.socket:
    """One connection that greets and says nothing more."""
    sock = socket.create_connection(("127.0.0.1", port), 5, source_address=(host, 0))
    sock.sendall(GREETING)
    return sock


def is_served(stack: Stack) -> bool:
    with contextlib.suppress(OSError):  # it does not listen yet
        return stack.post("/v1/chat/completions", CHAT).status == 200
    return False


def test_envoy_is_served_while_another_peer_hoards_connections(small: Stack) -> None:
    port = small.worker.port
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            with contextlib.suppress(OSError):
                stack.enter_context(hoard(port, "127.0.0.2"))
            assert small.post("/v1/chat/completions", CHAT).status == 200
        full = "aibrix_extproc_port_connections"
        eventually(lambda: small.worker.total(full) >= CONNECTIONS, "all connections are taken")
        assert small.worker.total(REFUSALS, reason="connections") > 0
        small.envoy.kill()
        for _ in range(CONNECTIONS):  # the attacker takes its places, and gives none of them back
            with contextlib.suppress(OSError):
                stack.enter_context(hoard(port, "127.0.0.2"))
        small.start_envoy()
        eventually(lambda: is_served(small), "the new Envoy is served")
        assert small.worker.total(REFUSALS, reason="evicted") > 0
        for _ in range(20):
            with contextlib.suppress(OSError):
                stack.enter_context(hoard(port, "127.0.0.2"))
            assert small.post("/v1/chat/completions", CHAT).status == 200
