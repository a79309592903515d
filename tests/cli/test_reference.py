"""The generated pages: current, complete, the same everywhere."""

import os
import re
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
import yaml

from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.cli import reference
from aibrix_extproc.cli.main import COMMANDS, main
from aibrix_extproc.cli.reference import PAGES, stale_pages
from aibrix_extproc.cli.reference_api import SECTIONS
from aibrix_extproc.cli.reference_command_line import WIDTH
from aibrix_extproc.cli.reference_docs import DOCS as OPERATION_DOCS
from aibrix_extproc.cli.reference_markdown import code, table
from aibrix_extproc.cli.reference_pages import place_of
from aibrix_extproc.cli.reference_settings import EXAMPLE
from aibrix_extproc.core.exchange.states import REQUEST_TABLE, RESPONSE_TABLE
from aibrix_extproc.core.fleet.kubernetes.podspec import LABELS
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action
from aibrix_extproc.core.openai.reference.header_docs import REQUEST_HEADERS, RESPONSE_HEADERS
from aibrix_extproc.core.routing.registry import STRATEGIES
from aibrix_extproc.settings import Settings, build

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {name: make() for name, make in PAGES.items()}


@pytest.fixture(name="made_once")
def make_pages_once(pages: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """To make all pages takes a second of CPU, and these tests ask for them ten times."""
    monkeypatch.setattr(reference, "PAGES", {name: partial(str, text) for name, text in pages.items()})


@pytest.mark.usefixtures("made_once")
def test_pages_are_what_the_code_says() -> None:
    assert sorted(stale_pages(DOCS)) == [], "run: aibrix-extproc reference --write"


def test_every_operation_is_on_a_page(pages: dict[str, str]) -> None:
    for row in OPERATIONS:
        if row.id not in OPERATION_DOCS:
            continue
        page, _, anchor = place_of(row).partition("#")
        assert f"`{row.method} {row.path}`" in pages[page], row.id
        assert not anchor or f"\n### {anchor}\n" in pages[page]
        assert f"]({place_of(row)})" in pages["api.md"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("api.md", [f"| {row.method} | `{row.path}` | `{row.id}` |" for row in OPERATIONS]),
        ("api.md", [f"\n| `{name}` |" for name in (*ERRORS, *REQUEST_HEADERS, *RESPONSE_HEADERS)]),
        ("errors.md", [f"| `{key}` | {row.status} |" for key, row in ERRORS.items()]),
        ("strategies.md", [f"\n## {name}\n" for name in STRATEGIES]),
        ("metrics.md", [f"| `{name}` |" for name in METRICS]),
        ("labels.md", [f"| `{key}` | {row[0]} |" for key, row in LABELS.items()]),
        ("command-line.md", [f"\n## {command.name}\n" for command in COMMANDS]),
        ("exchange.md", [event.__name__ for table in (REQUEST_TABLE, RESPONSE_TABLE) for _, event in table]),
        (
            "configuration.md",
            [
                f"| `{group}.{name}` | `AIBRIX_EXTPROC_{group.upper()}__{name.upper()}` |"
                for group, info in Settings.model_fields.items()
                for name in getattr(info.annotation, "model_fields", ())
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_page_has_every_row_of_its_table(name: str, words: list[str], pages: dict[str, str]) -> None:
    assert words
    assert [word for word in words if word not in pages[name]] == []


def test_every_action_has_a_section() -> None:
    assert {action for action, _ in SECTIONS} == set(Action)


def test_example_of_the_configuration_can_be_used() -> None:
    assert build({"file": yaml.safe_load(EXAMPLE)}) != Settings()


def test_options_fit_the_fixed_width(pages: dict[str, str]) -> None:
    blocks = pages["command-line.md"].split("```")[1::2]
    assert len(blocks) >= len(COMMANDS)
    assert max(len(line) for block in blocks for line in block.splitlines()) <= WIDTH


def test_every_option_of_the_terminal_is_on_the_page(pages: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main([command.name, "--help"])
        words = capsys.readouterr().out.replace(",", " ").split()
        section = pages["command-line.md"].split(f"\n## {command.name}\n")[1].split("\n## ")[0]
        options = {word for word in words if word.startswith("--") and word[2:].replace("-", "").isalpha()} - {"--help"}
        assert [option for option in sorted(options) if option not in section] == []


def anchors(text: str) -> set[str]:
    titles = [line.lstrip("#").strip() for line in text.splitlines() if line.startswith("#")]
    return {
        "".join(char for char in title.lower().replace(" ", "-") if char.isalnum() or char in "-_") for title in titles
    }


def test_links_of_pages_lead_somewhere() -> None:
    texts = {path: path.read_text() for path in DOCS.rglob("*") if path.is_file()}
    known = {path: anchors(text) for path, text in texts.items() if path.suffix == ".md"}
    wrong = []
    for path in known:
        for link in re.findall(r"\]\(([^)\s]+)\)", texts[path]):
            page, _, anchor = link.partition("#")
            if link.startswith(("http:", "https:")):
                continue
            there = (path.parent / page).resolve() if page else path
            if not there.exists() or (anchor and anchor not in known.get(there, {anchor})):
                wrong.append(f"{path.relative_to(DOCS)}: {link}")
    assert wrong == []


def test_contents_of_the_api_page_name_its_sections_in_order(pages: dict[str, str]) -> None:
    titles = [line[3:] for line in pages["api.md"].splitlines() if line.startswith("## ")]
    listed = [line[3:].partition("]")[0] for line in pages["api.md"].splitlines() if line.startswith("- [")]
    assert listed == titles


def test_pages_name_no_place_of_this_machine(pages: dict[str, str]) -> None:
    places = {str(Path.home()), str(Path.cwd()), str(DOCS.parent), tempfile.gettempdir(), sys.prefix}
    text = "\n".join(pages.values())
    assert [place for place in places if place != "/" and place in text] == []


@pytest.mark.slow
@pytest.mark.usefixtures("made_once")
def test_pages_do_not_depend_on_hashes_or_on_the_terminal(tmp_path: Path) -> None:
    for seed, columns in (("1", "40"), ("2", "200")):
        folder = tmp_path / seed
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-m", "aibrix_extproc", "reference", "--write", "--docs", str(folder)],
            env={"PATH": os.defpath, "PYTHONHASHSEED": seed, "COLUMNS": columns, "LC_ALL": "C"},
            cwd=DOCS.parent,
            check=True,
            capture_output=True,
        )
        assert sorted(stale_pages(folder)) == []


@pytest.mark.usefixtures("made_once")
def test_write_makes_missing_pages_and_check_is_content_then(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs = ["--docs", str(tmp_path)]
    assert main(["reference", "--check", *docs]) == 1
    assert main(["reference", "--write", *docs]) == 0
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} == set(PAGES)
    capsys.readouterr()
    assert main(["reference", "--check", *docs]) == 0
    assert main(["reference", *docs]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("made_once")
def test_check_names_the_stale_page_and_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = ["--docs", str(tmp_path)]
    main(["reference", "--write", *docs])
    capsys.readouterr()
    page = tmp_path / "errors.md"
    page.write_text(page.read_text() + "by hand\n")
    assert main(["reference", "--check", *docs]) == 1
    assert capsys.readouterr().err == f"{page} is not what the code says; run: aibrix-extproc reference --write\n"
    assert page.read_text().endswith("by hand\n"), "a check changes nothing"


def test_folder_that_is_not_there_is_told_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--write", "--docs", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith(f"aibrix-extproc: no folder {tmp_path / 'none'}; ")


def test_table_keeps_a_cell_in_its_cell() -> None:
    assert table(("a", "b"), [("x | y", "two\nlines"), ("", "`z`")]) == (
        "| a | b |\n| --- | --- |\n| x \\| y | two lines |\n| - | `z` |"
    )


@pytest.mark.parametrize(("text", "expected"), [("x", "`x`"), ("", "-"), ("a `b` c", "`` a `b` c ``")])
def test_code_survives_backticks(text: str, expected: str) -> None:
    assert code(text) == expected
