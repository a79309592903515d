"""The pages under docs/ that are written by hand: their samples work, and they leave nothing out."""

import re
from pathlib import Path

import pytest

from aibrix_extproc.adapters.keyfile.parse import CALLER_FIELDS, KEY_FIELDS, MAX_CALLERS, MAX_KEYS, MAX_NAME, parse_keys
from aibrix_extproc.adapters.keyfile.source import MAX_FILE_BYTES
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.core.openai.operation_docs import EVENTS
from aibrix_extproc.core.openai.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.operations import Action, Stream
from aibrix_extproc.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = ("keys.md", "streaming.md")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def commands() -> list[str]:
    lines = [line for name in WRITTEN for block in blocks(name, "sh") for line in block.splitlines()]
    inline = [
        found for name in WRITTEN for found in re.findall(r"`(aibrix-extproc keys [^`]+)`", (DOCS / name).read_text())
    ]
    return [*lines, *inline]


def table_after(text: str, head: str) -> list[str]:
    """The first column of the table with this head."""
    lines = text.partition(f"| {head} |")[2].splitlines()[2:]
    return [line.split("|")[1].strip().strip("`") for line in lines[: lines.index("")]]


@pytest.mark.parametrize("name", WRITTEN)
def test_contents_name_the_sections_in_order(name: str) -> None:
    text = (DOCS / name).read_text()
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles
    assert re.findall(r"^- \[(.+)\]\(#", text, re.MULTILINE) == titles


@pytest.mark.parametrize("command", commands())
def test_command_of_a_page_is_one(command: str) -> None:
    program, *words = command.split()
    assert program == "aibrix-extproc"
    assert parser_for(words[0]).parse_args(words)


def test_key_file_of_the_page_is_good() -> None:
    (text,) = blocks("keys.md", "yaml")
    operator = parse_keys(text, "keys.yaml")[1]
    assert operator.caller.admin


def test_page_of_keys_tells_every_field_and_the_bounds() -> None:
    text = (DOCS / "keys.md").read_text()
    assert set(table_after(text, "field of a caller | meaning")) == set(CALLER_FIELDS)
    assert set(table_after(text, "field of a key | meaning")) == set(KEY_FIELDS)
    for bound in (f"up to {MAX_KEYS}", f"up to {MAX_NAME}", f"{MAX_CALLERS:,}", f"{MAX_FILE_BYTES >> 20} MiB"):
        assert bound in text


def test_page_of_streams_names_every_operation_that_streams() -> None:
    text = (DOCS / "streaming.md").read_text()
    streamed = {row.id for row in OPERATIONS if row.stream is not Stream.NONE and row.action is not Action.REFUSE}
    told = {name for cell in table_after(text, "operation | events | the last one") for name in cell.split("`, `")}
    assert told == streamed
    assert EVENTS in text
    assert f"{Settings().limits.max_wait_seconds:g} s" in text


def test_samples_of_streams_can_be_compiled() -> None:
    (sample,) = blocks("streaming.md", "python")
    assert compile(sample, "streaming.md", "exec")
