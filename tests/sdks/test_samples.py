"""The samples of the reference in Node, against the stack that the pages name (make test-sdks)."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sdks.install import NODE
from tools.samples.blocks import Sample, samples
from tools.samples.files import write_files
from tools.samples.running import PAGES, run, stack

FOUND = [
    (path.stem, number, sample)
    for path in sorted(PAGES.glob("*.md"))
    for number, sample in enumerate(samples(path.read_text("utf-8")))
    if sample.language == "js"
]
pytestmark = [pytest.mark.sdk, pytest.mark.envoy]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with stack() as started:
        yield started


@pytest.mark.parametrize("sample", [one for _, _, one in FOUND], ids=[f"{name}-{number}" for name, number, _ in FOUND])
def test_sample_prints_what_the_page_says(address: str, sample: Sample, tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed: install it and run make test-sdks again")
    write_files(tmp_path)
    assert run(sample, address, tmp_path, NODE) == sample.printed
