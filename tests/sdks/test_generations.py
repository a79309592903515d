"""The starred acceptance cases with each generation of the SDK, each in an environment of its own (make test-sdks)."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.dataplane.children import Child
from tests.dataplane.conftest import FLEET, KEY
from tests.dataplane.stack import Stack, running
from tests.sdks.install import NODE, PYTHON_SDKS, python_of

HERE = Path(__file__).parent
PYTHON_CASES = re.findall(r"^@case\ndef (\w+)", (HERE / "cases.py").read_text(), re.MULTILINE)
NODE_CASES = re.findall(r"^  async (\w+)\(\)", (HERE / "cases.mjs").read_text(), re.MULTILINE)
ALL = [*((sdk, case) for sdk in PYTHON_SDKS for case in PYTHON_CASES), *(("node", case) for case in NODE_CASES)]

pytestmark = [pytest.mark.sdk, pytest.mark.envoy]
Results = dict[str, str | None]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(Stack(tmp_path_factory.mktemp("stack"), FLEET, api_keys=(KEY,))) as started:
        yield started


@pytest.fixture(scope="session")
def stored_base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a stack with the metadata service."""
    words = ("local", "--port", "0", "--engines", "1", "--model", "chat-m", "--api-key", KEY, "--json")
    directory = tmp_path_factory.mktemp("stored")
    child = Child("local", [sys.executable, "-m", "aibrix_extproc", *words], directory)
    try:
        yield json.loads(child.wait_output("base_url"))["base_url"]
    finally:
        child.terminate()
        child.wait(60)


@pytest.fixture(scope="session")
def results_of() -> dict[str, Results]:
    """What each SDK's run has printed; a run is made when its first case asks."""
    return {}


@pytest.mark.parametrize(("sdk", "case"), ALL, ids=[f"{sdk}-{case}" for sdk, case in ALL])
def test_case_passes_with_sdk(
    stack: Stack, stored_base_url: str, results_of: dict[str, Results], sdk: str, case: str
) -> None:
    if sdk not in results_of:
        results_of[sdk] = _run(sdk, stack.base_url, stored_base_url)
    results = results_of[sdk]
    assert case in results, f"the run ended before it came to {case}"
    assert results[case] is None, results[case]


def _run(sdk: str, base_url: str, stored_base_url: str) -> Results:
    if sdk == "node" and shutil.which("node") is None:
        pytest.skip("Node.js is not installed: install it and run make test-sdks again")
    command = (
        ["node", str(HERE / "cases.mjs"), str(NODE)] if sdk == "node" else [str(python_of(sdk)), str(HERE / "cases.py")]
    )
    command += [base_url, KEY, stored_base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, f"{sdk} did not start (make test-sdks installs it): {done.stderr[-2000:]}"
    if "." in sdk:
        assert lines[0]["version"].startswith(sdk.partition("-")[2]), lines[0]
    return {line["case"]: line["failure"] for line in lines[1:]}
