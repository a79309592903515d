"""`batch run` that is ended early, against a server that sends the signal when it has got a request."""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aibrix_extproc.cli.main import main

LINE = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}
FILE = {"id": "file-abc", "object": "file", "bytes": 9, "created_at": 1, "filename": "in.jsonl", "purpose": "batch"}
BATCH = {
    "id": "batch_abc", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-abc",
    "completion_window": "24h", "status": "completed", "created_at": 1, "output_file_id": "file-out",
}  # fmt: skip


class Server(ThreadingHTTPServer):
    """Answers what `batch run` asks; at one path the client gets a signal first, and no answer before that."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.signalled_at = ""
        self.signal = signal.SIGINT
        self.fails_at = ""
        self.asked: list[str] = []
        self.release = threading.Event()
        self.status = "completed"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(BATCH | {"status": self.server.status} if "/batches/" in self.path else LINE)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._answer(FILE if self.path == "/v1/files" else BATCH | {"status": "in_progress"})

    def _answer(self, body: object) -> None:
        asked = f"{self.command} {self.path}"
        self.server.asked.append(asked)
        if asked == self.server.signalled_at:
            os.kill(os.getpid(), self.server.signal)
            self.server.release.wait(60)
            return
        self.send_response(400 if asked == self.server.fails_at else 200)
        content = json.dumps(body).encode()
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aibrix_extproc.cli.batch_progress._FIRST_PAUSE", 0.0)
    (tmp_path / "in.jsonl").write_text(json.dumps(LINE))
    one = Server()
    # SIGTERM: the test fails where pytest would end. SIGINT: whoever starts tests in the background has it ignored.
    before = {sent: signal.signal(sent, signal.default_int_handler) for sent in (signal.SIGTERM, signal.SIGINT)}
    threading.Thread(target=one.serve_forever, daemon=True).start()
    yield one
    for sent, handler in before.items():
        signal.signal(sent, handler)
    one.release.set()
    one.shutdown()
    one.server_close()


def run(server: Server, *words: str) -> int:
    return main(["batch", *words, "--base-url", server.url])


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        ("POST /v1/files", "interrupted; nothing was begun"),
        ("POST /v1/batches", "`batch run file-abc --endpoint /v1/chat/completions` goes on"),
        ("GET /v1/batches/batch_abc", "`batch follow batch_abc` goes on"),
        ("GET /v1/files/file-out/content", "`batch follow batch_abc` goes on"),
    ],
)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_says_what_is_left_and_how_to_go_on(
    server: Server, capsys: pytest.CaptureFixture[str], stage: str, told: str, sent: signal.Signals, code: int
) -> None:
    server.signalled_at, server.signal = stage, sent
    assert run(server, "run", "in.jsonl", "--json") == code
    printed = capsys.readouterr()
    assert (printed.out, told in printed.err, "interrupted" in printed.err) == ("", True, True), printed.err
    assert os.listdir() == ["in.jsonl"]


def test_run_goes_on_with_a_stored_file(server: Server) -> None:
    assert run(server, "run", "file-abc") == 2, "the endpoint is not known"
    assert run(server, "run", "file-abc", "--endpoint", "/v1/chat/completions") == 0
    assert "POST /v1/files" not in server.asked
    assert json.loads(Path("batch_abc_output.jsonl").read_text()) == LINE


def test_refused_batch_names_the_file_that_is_stored(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.fails_at = "POST /v1/batches"
    assert run(server, "run", "in.jsonl") == 1
    assert "file-abc is stored" in capsys.readouterr().err


def test_results_that_cannot_be_written_name_the_batch(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    Path("full").symlink_to("/dev/full")
    Path("full.part").symlink_to("/dev/full")
    assert run(server, "run", "in.jsonl", "--output", "full") == 2
    told = capsys.readouterr().err
    assert "full cannot be written: No space left on device" in told
    assert "`batch follow batch_abc` goes on and writes the results" in told


def test_run_whose_progress_nobody_reads_writes_its_results(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """`batch run ... 2>&1 | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    with contextlib.suppress(BrokenPipeError), open(writing, "w", encoding="utf-8", buffering=1) as lost:
        monkeypatch.setattr(sys, "stderr", lost)
        assert run(server, "run", "in.jsonl") == 0
    assert json.loads(Path("batch_abc_output.jsonl").read_text()) == LINE
