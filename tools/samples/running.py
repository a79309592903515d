"""Starts the stack of the pages, runs one sample against it, and gives what it prints."""

import contextlib
import http.client
import io
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aibrix_extproc.cli.reference_api import SAMPLE_ARGUMENTS
from tools.samples.blocks import ADDRESS, Sample, steady

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ROOT / "aibrix_extproc" / "interfaces" / "pages"
ARGUMENTS: Final = tuple(shlex.split(SAMPLE_ARGUMENTS))
_SECONDS: Final = 60


@contextmanager
def stack() -> Iterator[str]:
    """The stack of the pages; its address."""
    with tempfile.TemporaryDirectory() as folder:
        ports = ("--port", "0", "--envoy-admin-port", "0")  # another stack may run on this machine
        words = [sys.executable, "-m", "aibrix_extproc", "local", *ports, "--engines", "1", "--json", *ARGUMENTS]
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (Path(folder) / "log").read_text()
            yield json.loads(line)["base_url"].removesuffix("/v1")
        finally:
            process.terminate()
            process.wait(60)


def run(sample: Sample, address: str, folder: Path, node_modules: Path | None = None) -> str:
    """What the sample prints. Files that it names are looked for in `folder`."""
    text = sample.text.replace(ADDRESS, address)
    if sample.language == "python":
        return steady(_python(text, folder))
    if sample.language == "http":
        return steady(_http(text, address))
    return steady(_node(text, folder, node_modules))


def _python(text: str, folder: Path) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(folder):
        exec(compile(text, "sample", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def _node(text: str, folder: Path, node_modules: Path | None) -> str:
    assert node_modules is not None, "samples in Node need the SDK: make test-sdks installs it"
    with tempfile.NamedTemporaryFile("w", suffix=".mjs", dir=node_modules, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        done = subprocess.run(
            ["node", file.name], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _http(text: str, address: str) -> str:
    """The status and the body of the answer to a request as a page writes it."""
    head, _, body = text.partition("\n\n")
    (method, path), *lines = head.splitlines()[0].split()[:2], *head.splitlines()[1:]
    headers = dict(line.split(": ", 1) for line in lines)
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=_SECONDS)
    connection.request(method, path, body.strip().encode() or None, headers)
    answer = connection.getresponse()
    said = answer.read().decode()
    connection.close()
    if answer.getheader("content-type", "").startswith("application/json"):
        return json.dumps(json.loads(said), indent=2, ensure_ascii=False)
    return said
