"""A PostgreSQL server of the machine's own packages, for one test run: on a socket and a port of its own."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import eventually

START_SECONDS = 60.0


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty server. It refuses to run as root, so root lends it to another user."""
    folder = binaries()
    assert folder is not None, "needs a PostgreSQL server: apt-get install postgresql"
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    data = Path(tempfile.mkdtemp(prefix="postgres-"))
    os.chown(data, user.pw_uid, user.pw_gid)
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": data}
    try:
        initdb = [folder / "initdb", "-D", data / "db", "-U", "test", "--auth=trust", "--no-sync"]
        subprocess.run(initdb, check=True, **as_user, **quiet)  # type: ignore[call-overload]
        port = _free_port()
        options = ["-p", str(port), "-h", "127.0.0.1", "-k", data]
        server = subprocess.Popen([folder / "postgres", "-D", data / "db", *options], **as_user, **quiet)  # type: ignore[call-overload]
        try:
            _wait(folder, port)
            yield f"postgresql://test@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(START_SECONDS)
    finally:
        shutil.rmtree(data, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(folder: Path, port: int) -> None:
    """A server listens before it answers."""
    asked = [str(folder / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    eventually(lambda: subprocess.run(asked).returncode == 0, "PostgreSQL answers", seconds=START_SECONDS)
