"""The site of `make site`: its links lead somewhere, its search finds, and no other host is asked for anything."""

import functools
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.browser.install import HOME, browser
from tools.site.build import SITE, main

HERE = Path(__file__).parent
PICTURES = HOME / "site"  # kept, to be looked at

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site() -> Path:
    assert main() == 0
    return SITE


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_every_link_leads_somewhere(site: Path) -> None:
    pages = {page: page.read_text("utf-8") for page in site.rglob("*.html") if page.name != "404.html"}
    assert len(pages) > 50
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    lost = []
    for page, text in pages.items():
        for target, anchor in re.findall(r'<a [^>]*href="([^":#?]*)(?:#([^"]*))?"', text):
            there = (page.parent / unquote(target)).resolve() if target else page
            if there.is_dir():
                there /= "index.html"
            if not there.exists() or (anchor and there in anchors and unquote(anchor) not in anchors[there]):
                lost.append((page.name, target, anchor))
    assert lost == []


def test_search_finds_a_field_and_no_other_host_is_asked(address: str) -> None:
    executable = browser()
    if executable is None or not (HOME / "node_modules").exists() or shutil.which("node") is None:
        pytest.skip("install Node.js and Chromium, then run make test-browser")
    PICTURES.mkdir(exist_ok=True)
    words = ["node", str(HERE / "site.mjs"), str(HOME), executable, address, str(PICTURES)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    seen = json.loads(ran.stdout)
    assert seen["heading"].startswith("Answer a conversation")
    assert seen["results"] > 3
    assert (seen["elsewhere"], seen["complaints"]) == ([], [])
