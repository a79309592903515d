"""Runs openai-python's tests against a base URL and reads what became of each."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from tests.sdk_suite.install import PYTHON, SOURCES

# Test modules of operations that the gateway serves.
MODULES = (
    "chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py", "test_responses.py",
    "responses/test_input_items.py", "audio/test_transcriptions.py", "audio/test_translations.py",
)  # fmt: skip
_MODEL = re.compile(r'model="([\w.-]+)"')
_RESPONSE_ID = re.compile(r'"resp_\w+"|(?<=previous_response_id=)"[^"]*"|(?<=response_id=)"response_id"')
# The gateway keeps no conversations, and says so; the rest of these requests passes.
_CONVERSATION = re.compile(r'\n *conversation="string",')
# A gateway routes by model, so a request without one goes nowhere; the SDK's mock server takes it.
_NO_MODEL = re.compile(r"(\.responses(?:\.with_\w+)?\.create\()((?:(?!\bmodel=)[^()]|\([^()]*\))*?)\)", re.DOTALL)


def tests_directory() -> Path:
    """The SDK's tests as they were published."""
    return next(SOURCES.glob("openai-*/tests"))


def models() -> list[str]:
    """The models that the tests name."""
    texts = [(tests_directory() / "api_resources" / module).read_text() for module in MODULES]
    return sorted({name for text in texts for name in _MODEL.findall(text)})


def run(base_url: str, response_id: str, directory: Path) -> Mapping[str, str]:
    """Outcomes by test: "passed", "skipped" or how it failed. The tests' made-up response ids become this one."""
    shutil.copytree(tests_directory(), directory / "tests")
    for module in MODULES:
        _edit(directory / "tests" / "api_resources" / module, response_id)
    report = directory / "report.xml"
    options = ("-q", "--no-header", "-p", "no:cacheprovider", "--asyncio-mode=auto", f"--junitxml={report}")
    loops = ("-o", "asyncio_default_fixture_loop_scope=session", "-o", "junit_family=xunit1")
    paths = [str(directory / "tests" / "api_resources" / module) for module in MODULES]
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest", *options, *loops, "--rootdir", str(directory), *paths],
        cwd=directory,
        env={"TEST_API_BASE_URL": base_url, "PATH": str(PYTHON.parent), "PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
        timeout=3000,  # on a busy machine
        check=False,
    )
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    return dict(_outcomes(report))


def _edit(module: Path, response_id: str) -> None:
    text = _CONVERSATION.sub("", _RESPONSE_ID.sub(f'"{response_id}"', module.read_text()))
    module.write_text(_NO_MODEL.sub(_with_model, text))


def _with_model(call: re.Match[str]) -> str:
    given = call[2].rstrip()
    comma = "" if not given or given.endswith(",") else ","
    return f'{call[1]}{given}{comma} model="gpt-6-astra")'


def _outcomes(report: Path) -> list[tuple[str, str]]:
    found = []
    for case in ElementTree.parse(report).iter("testcase"):
        failure = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped") is not None
        outcome = (failure.get("message") or "failed") if failure is not None else "skipped" if skipped else "passed"
        found.append((f"{case.get('classname')}::{case.get('name')}", outcome))
    return found
