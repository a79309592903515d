"""What `aibrix-extproc serve` says when it cannot start: one sentence, on every transport."""

import socket
import subprocess
import sys

import pytest

TRANSPORTS = ("grpcio", "lean")


def refused(*options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "aibrix_extproc", "serve", "--endpoint", "http://127.0.0.1:1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("option", "other", "purpose"), [
    ("--port", "--admin-port", "ext_proc"),
    ("--admin-port", "--port", "admin"),
])  # fmt: skip
def test_busy_port_is_one_sentence(transport: str, option: str, other: str, purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        code, output = refused("--transport", transport, option, str(port), other, "0")
    assert (code, output) == (
        2,
        f"aibrix-extproc: cannot listen on 127.0.0.1:{port} for {purpose}: address already in use\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_address_of_another_machine_is_one_sentence(transport: str) -> None:
    code, output = refused("--transport", transport, "--host", "192.0.2.1", "--port", "9002", "--admin-port", "0")
    sentence = "cannot listen on 192.0.2.1:9002 for ext_proc: cannot assign requested address"
    assert (code, output) == (2, f"aibrix-extproc: {sentence}\n")
