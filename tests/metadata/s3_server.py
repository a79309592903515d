"""A real S3 server for one test run: Versity's gateway over a folder, as `make s3-server` builds it."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.waiting import eventually

BUILT = Path.home() / ".cache/aibrix-extproc/s3-server/versitygw"
BUCKET = "bucket"
KEY = "test-key"
SECRET = "test-secret"


class S3Server:
    """A server that can be stopped and started again on its objects, which are files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bucket = folder / "objects" / BUCKET
        sidecar = folder / "sidecar"  # what a file system without extended attributes cannot keep
        for one in (self.bucket, sidecar):
            one.mkdir(parents=True)
        self._port = free_port()
        self._command = [
            _program(), "--port", f"127.0.0.1:{self._port}", "--access", KEY, "--secret", SECRET, "--quiet", "posix",
            "--sidecar", str(sidecar), str(self.bucket.parent),
        ]  # fmt: skip
        self.environment = {
            "AWS_ENDPOINT": f"http://127.0.0.1:{self._port}", "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }  # fmt: skip

    def start(self) -> None:
        """Start, and wait until it listens."""
        with (self._folder / "s3.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._folder)
        eventually(lambda: _answers(self._port) or self._process.poll() is not None, "the S3 server listens")
        assert self._process.poll() is None, (self._folder / "s3.log").read_text()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it at once, as a crash does."""
        self._process.kill()
        self._process.wait(30)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    """A server that runs, with one empty bucket."""
    made = S3Server(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def _program() -> str:
    found = shutil.which("versitygw") or (str(BUILT) if BUILT.exists() else None)
    assert found is not None, "needs an S3 server: make s3-server"
    return found


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
