"""A page of another origin reads answers, streams and every error, whether an engine, the gateway or Envoy gives it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.install import BUNDLE, HOME, browser
from tests.dataplane.engines import EngineSpec
from tests.dataplane.stack import METERED, Stack, running

HERE = Path(__file__).parent
CASES = re.findall(r"^    async (\w+)\(\)", (HERE / "page.js").read_text(), re.MULTILINE)
KEY = "sk-browser-0123456789abcdefgh"
LIMIT = 300_000
FLEET = (
    EngineSpec("chat", ("chat-m",), ("--enable-responses-store",)),
    EngineSpec("vectors", ("emb-m",), ("--task", "embed")),
    EngineSpec("speech", ("asr-m",), ("--task", "transcription")),
    EngineSpec("dead", ("dead-m",)),
)

pytestmark = [pytest.mark.browser, pytest.mark.envoy]
Results = dict[str, str | None]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Results]]:
    """What the cases have given: those with the prefix `away` after the processor was killed."""
    executable = browser()
    if executable is None or not BUNDLE.exists() or shutil.which("node") is None:
        pytest.skip("install Node.js and Chromium, then run make test-browser")
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        FLEET,
        api_keys=(KEY,),
        killable=True,
        # Engines are asked once an hour, so that the one that dies is still thought to be alive.
        serve_arguments=("--metering", "--max-body-bytes", str(LIMIT), "--fleet-poll-seconds", "3600"),
        envoy_options=METERED | {"max_body_bytes": LIMIT},
    )
    with running(stack) as started:
        found: dict[str, Results] = {}

        def run(phase: str) -> Results:
            if "here" not in found:
                started.kill_engine("dead")
                found["here"] = _run(started, executable, "openai,anthropic")
            if phase == "away" and "away" not in found:
                started.worker.child.kill()
                found["away"] = _run(started, executable, "away")
            return found[phase]

        yield run


@pytest.mark.parametrize("case", CASES)
def test_page_can_read(results: Callable[[str], Results], case: str) -> None:
    found = results("away" if case.startswith("away") else "here")
    assert case in found, "the run ended before it came to this case"
    assert found[case] is None, found[case]


def _run(stack: Stack, executable: str, prefixes: str) -> Results:
    root = stack.base_url.removesuffix("/v1")
    command = ["node", str(HERE / "drive.mjs"), str(HOME), executable, root, KEY, prefixes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, f"the browser did not start: {done.stderr[-2000:]}"
    return {line["case"]: line["failure"] for line in lines}
