"""The pages under docs/ that are written by hand: their samples work, and they leave nothing out."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from aibrix_extproc.adapters.keyfile.parse import CALLER_FIELDS, KEY_FIELDS, MAX_CALLERS, MAX_KEYS, MAX_NAME, parse_keys
from aibrix_extproc.adapters.keyfile.source import MAX_FILE_BYTES
from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.cli.main import parser_for
from aibrix_extproc.core.fleet.kubernetes.podspec import LABELS
from aibrix_extproc.core.fleet.modelconfig import CONFIG_MEMBERS
from aibrix_extproc.core.openai.contract import headers
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.contract.operations import Action, Role, Stream
from aibrix_extproc.core.openai.reference.operation_docs import EVENTS
from aibrix_extproc.core.routing.registry import NOT_HERE, STRATEGIES
from aibrix_extproc.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
WRITTEN = ("keys.md", "control.md", "streaming.md", "migrating-from-aibrix.md")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / name).read_text(), re.DOTALL)


def commands() -> list[str]:
    lines = [line for name in WRITTEN for block in blocks(name, "sh") for line in block.splitlines() if line.strip()]
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
    assert operator.caller.role is Role.OPERATOR


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


MIGRATION = "migrating-from-aibrix.md"


def told(section: str) -> str:
    """A section of the migration page."""
    text = (DOCS / MIGRATION).read_text()
    return re.split(r"^## ", text.partition(f"\n## {section}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def missing(names: Iterable[str], section: str) -> list[str]:
    return [name for name in names if f"`{name}`" not in told(section)]


def test_migration_page_tells_of_every_header_strategy_and_label() -> None:
    assert missing([*headers.ROUTING_HEADERS, "user", "authorization", "target-pod"], "Request headers") == []
    assert missing([headers.SESSION_ID, headers.CHOSEN_PROFILE], "Response headers") == []
    assert missing([*STRATEGIES, *NOT_HERE], "Strategies") == []
    assert missing([*LABELS, *(CONFIG_MEMBERS.keys() - _BOUNDS)], "Labels and annotations") == []


_BOUNDS = {"promptTokensGte", "promptTokensLt", "maxTokensGte", "maxTokensLt"}  # on the page of labels


def test_migration_page_names_errors_with_the_status_that_they_have() -> None:
    named = re.findall(r"(\d{3}) `([a-z_]+)`", told("Errors"))
    codes = {(str(row.status), name) for key, row in ERRORS.items() for name in (key, row.code)}
    assert len(named) > 7
    assert set(named) - codes == set()
    assert re.findall(r"\b400 `([a-z_]+)`", told("Strategies")) == [ERRORS["unsupported_strategy"].code]


def test_migration_page_names_settings_and_metrics_that_there_are() -> None:
    ours = {flag for row in told("Settings").splitlines() for flag in re.findall(r"--[a-z-]+", row.split("|")[-2:][0])}
    taken = (DOCS / "command-line.md").read_text()
    assert len(ours) > 10
    assert [flag for flag in ours if f"{flag} " not in taken and f"{flag}," not in taken] == []
    metrics = set(re.findall(r"aibrix_extproc_\w+", told("Metrics")))
    assert len(metrics) > 5
    assert metrics - METRICS.keys() == set()


def test_migration_page_puts_paths_where_the_table_has_them() -> None:
    actions = {row.path: row.action for row in OPERATIONS}
    rows = [row.split("|") for row in told("Paths").splitlines() if row.startswith("| `")]
    assert len(rows) > 6
    for _, paths, verdict, *_rest in rows:
        for path in re.findall(r"`([^`]+)`", paths):
            served = actions.get(path) in (Action.ROUTE, Action.LOCAL, Action.METADATA)
            assert served is (verdict.strip() != "not yet"), path
