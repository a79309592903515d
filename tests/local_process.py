"""`aibrix-extproc local` as a process of its own, on ports that the kernel chose."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def local_process(folder: Path, *options: str) -> Iterator[dict[str, Any]]:
    """The addresses that it prints when all is ready. What it says else goes to a file in the folder."""
    words = (sys.executable, "-m", "aibrix_extproc", "local", "--json", "--port", "0", "--envoy-admin-port", "0")
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen([*words, *options], stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "errors").read_text()
        yield json.loads(line)
    finally:
        process.terminate()
        process.communicate(timeout=60)
