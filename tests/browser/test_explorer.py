"""The API explorer of `local` in a browser: it shows every operation, calls the gateway, and keeps no key."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibrix_extproc.interfaces.document import read_document
from tests.browser.install import HOME, browser
from tests.local_process import local_process

HERE = Path(__file__).parent
KEY = "sk-explorer-0123456789abcdef"
PICTURES = HOME / "explorer"  # kept, to be looked at

pytestmark = [pytest.mark.browser, pytest.mark.envoy]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    executable = browser()
    if executable is None or not (HOME / "node_modules").exists() or shutil.which("node") is None:
        pytest.skip("install Node.js and Chromium, then run make test-browser")
    PICTURES.mkdir(exist_ok=True)
    with local_process(tmp_path_factory.mktemp("explorer"), "--engines", "1", "--api-key", KEY) as addresses:
        words = ["node", HERE / "explorer.mjs", HOME, executable, addresses["explorer"], KEY, PICTURES]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        found: dict[str, Any] = json.loads(ran.stdout)
        yield {**found, "origin": addresses["base_url"].removesuffix("/v1")}


def test_every_operation_is_shown(seen: dict[str, Any]) -> None:
    assert seen["operations"] == len(read_document().operations)
    assert seen["complaints"] == []


def test_operations_are_called_with_the_key_that_was_typed(seen: dict[str, Any]) -> None:
    assert seen["models"]["status"] == "200"
    assert "sim-chat" in seen["models"]["text"]
    assert seen["chat"]["status"] == "200"
    assert "chat.completion" in seen["chat"]["text"]


def test_error_of_the_gateway_is_shown(seen: dict[str, Any]) -> None:
    assert seen["refusal"]["status"] == "404"
    assert "model_not_found" in seen["refusal"]["text"]


def test_key_is_neither_filled_in_nor_kept(seen: dict[str, Any]) -> None:
    assert seen["prefilled"] == ""
    assert KEY not in seen["stored"]


def test_page_asks_nobody_but_its_server_and_the_gateway(seen: dict[str, Any]) -> None:
    assert {url.partition("/v1/")[0] for url in seen["elsewhere"] if not url.startswith("data:")} == {seen["origin"]}
