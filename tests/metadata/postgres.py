"""A PostgreSQL server of the machine's own packages, for one test run: on a socket and a port of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.waiting import eventually

START_SECONDS = 60.0


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


class Server:
    """A server that can be stopped and started again on its data. It refuses to run as root, which lends it a user."""

    def __init__(self, data: Path) -> None:
        folder = binaries()
        assert folder is not None, "needs a PostgreSQL server: apt-get install postgresql"
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        os.chown(data, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        self._options: dict[str, Any] = {
            **as_user, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": data,
        }  # fmt: skip
        initdb = [str(folder / "initdb"), "-D", str(data / "db"), "-U", "test", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, check=True, **self._options)
        self._folder = folder
        self._port = free_port()
        self._command = [
            str(folder / "postgres"), "-D", str(data / "db"), "-p", str(self._port), "-h", "127.0.0.1", "-k", str(data),
            # No test stops the machine, and a server that dies alone keeps what it has written.
            "-c", "fsync=off",
        ]  # fmt: skip
        self.url = f"postgresql://test@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._server = subprocess.Popen(self._command, **self._options)
        _wait(self._folder, self._port)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop: SIGINT breaks off transactions, SIGQUIT leaves the recovery to the next start."""
        self._server.send_signal(number)
        self._server.wait(START_SECONDS)


@contextmanager
def server() -> Iterator[Server]:
    """An empty server that runs."""
    data = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        made = Server(data)
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(data, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty server."""
    with server() as made:
        yield made.url


def _wait(folder: Path, port: int) -> None:
    """A server listens before it answers."""
    asked = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    eventually(lambda: subprocess.run(asked).returncode == 0, "PostgreSQL answers", seconds=START_SECONDS)
