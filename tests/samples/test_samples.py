"""The samples of the reference: run against the stack that the pages name, they print what the pages say."""

import re
from pathlib import Path

import pytest

from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from tools.samples.blocks import ADDRESS, Sample, recorded, samples, steady
from tools.samples.files import write_files
from tools.samples.running import PAGES, run, stack

NAMES = sorted(path.stem for path in PAGES.glob("*.md"))


def samples_of(name: str, *languages: str) -> list[tuple[int, Sample]]:
    found = enumerate(samples((PAGES / f"{name}.md").read_text("utf-8")))
    return [(number, one) for number, one in found if one.language in languages]


@pytest.mark.envoy
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of SDKs
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # samples close no clients
def test_samples_print_what_the_pages_say(tmp_path: Path) -> None:
    """`make samples` records what they print. One test, so that there is one stack."""
    write_files(tmp_path)
    wrong = []
    with stack() as address:
        for name in NAMES:
            for number, sample in samples_of(name, "python", "http"):
                printed = run(sample, address, tmp_path)
                if sample.printed is not None and printed != sample.printed:
                    wrong.append(f"{name}, sample {number}:\n{printed}\ninstead of\n{sample.printed}")
    assert wrong == []


def test_every_page_belongs_to_an_operation_and_has_samples() -> None:
    assert set(NAMES) <= {row.id for row in OPERATIONS}
    assert [name for name in NAMES if not samples_of(name, "python", "http")] == []


def test_samples_are_whole_programs_with_the_address_that_readers_know() -> None:
    for name in NAMES:
        for number, sample in samples_of(name, "python", "js"):
            assert ADDRESS in sample.text, f"{name}, sample {number}"
            assert re.search(r"^(import|from) ", sample.text, re.MULTILINE), f"{name}, sample {number}"


PAGE = "a\n```python\nx\n```\n\n```text\nold\n```\n\n## b\n\n```js\ny\n```\n\n## c\n\n```text\nz\n```\n"


def test_a_sample_has_the_block_that_follows_it() -> None:
    assert [(one.language, one.text, one.printed) for one in samples(PAGE)] == [
        ("python", "x\n", "old\n"), ("js", "y\n", None),
    ]  # fmt: skip
    assert recorded(PAGE, {0: "new\n", 1: "never\n"}) == PAGE.replace("old", "new")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"id": "chatcmpl-0f3c11d2-1"', '"id": "chatcmpl-ID"\n'),
        ('{"created":1764450001,"n":1764450001}', '{"created":1764460800,"n":1764450001}\n'),
        ("resp_00ff00ff00ff and msg-12345678", "resp_ID and msg-ID\n"),
        ("http://127.0.0.1:40001/v1", "http://127.0.0.1:8080/v1\n"),
        ("  \n", ""),
    ],
)
def test_what_differs_from_run_to_run_is_written_down_alike(text: str, expected: str) -> None:
    assert steady(text) == expected
