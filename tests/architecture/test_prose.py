"""Pages written by hand name only what exists: files, commands with their options, make targets, settings, metrics."""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aibrix_extproc.adapters.telemetry.metrics import METRICS
from aibrix_extproc.app.metadata.metrics import METADATA_METRICS
from aibrix_extproc.cli.main import COMMANDS, parser_for
from aibrix_extproc.settings import GROUPS, Settings
from tests.architecture.sources import ROOT, shown, tracked

PAGES = tuple(
    path
    for path in tracked()
    if path.suffix == ".md" and "api" not in path.parts and "interfaces" not in path.parts
)  # fmt: skip
ADAPTERS = ROOT / "aibrix_extproc" / "adapters"
HISTORY = ROOT / "CHANGELOG.md"  # may name what is gone
SETTINGS = {
    f"{group}.{name}"
    for group in GROUPS
    for name in Settings.model_fields[group].annotation.model_fields  # type: ignore[union-attr]
}
# Names with a dot that begin like a setting: a field of Kubernetes, values of the Helm chart, files.
OTHERS = {"metadata.name", "redis.enabled", "server.py", "limits.py", "fleet.yaml", "admin.address"}
COMMAND = re.compile(rf"(?:^|[\s/])aibrix-extproc ((?:{'|'.join(one.name for one in COMMANDS)})\b.*)")


def texts() -> Iterator[tuple[Path, str]]:
    return ((page, page.read_text(encoding="utf-8")) for page in PAGES if page != HISTORY)


def quoted() -> Iterator[tuple[Path, str]]:
    """The words between backticks of all pages, each within one line."""
    for page, text in texts():
        for words in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
            yield page, words


def commands() -> Iterator[tuple[Path, list[str]]]:
    """The words of each command of ours in a block of shell, behind `aibrix-extproc`."""
    for page, text in texts():
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines() if language in ("", "sh", "bash", "console") else ()
            for part in (part for line in lines for part in re.split(r"[|;&()]|\s#", line)):
                if found := COMMAND.search(part):
                    words = shlex.split(found[1].partition(">")[0])
                    yield page, [word for word in words if word != "..."]  # further options


def test_commands_can_be_given_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    found = list(commands())
    assert len(found) > 30
    for page, words in found:
        try:
            parser_for(words[0]).parse_args(words)
        except SystemExit as ended:
            if ended.code:
                pytest.fail(f"{shown(page)}: {shlex.join(words)}: {capsys.readouterr().err}")


def test_make_targets_are_there() -> None:
    lines = re.findall(r"^([a-z0-9 -]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    targets = {target for line in lines for target in line.split()}
    named = {
        (shown(page), target)
        for page, text in texts()
        for target in re.findall(r"(?:^|`)make ([a-z0-9-]+)", text, re.M)
    }
    assert len(named) > 20
    assert sorted(one for one in named if one[1] not in targets) == []


def test_settings_are_there() -> None:
    group = re.compile(rf"(?:{'|'.join(GROUPS)})\.[a-z_]+")
    named = {(shown(page), words) for page, words in quoted() if group.fullmatch(words)}
    variables = {
        (shown(page), name.lower().replace("__", "."))
        for page, text in texts()
        for name in re.findall(r"AIBRIX_EXTPROC_([A-Z]+__[A-Z_]+)", text)
    }
    assert len(named) > 100
    assert sorted(one for one in named | variables if one[1] not in SETTINGS | OTHERS) == []


def test_metrics_are_there() -> None:
    known = {*METRICS, *METADATA_METRICS}
    named = {
        (shown(page), name) for page, text in texts() for name in re.findall(r"\baibrix_(?:extproc|metadata)_\w+", text)
    }
    assert len(named) > 50
    histograms = {f"{name}{end}" for name in known for end in ("_bucket", "_count", "_sum")}
    assert sorted(one for one in named if one[1] not in known | histograms) == []


def test_links_lead_to_files() -> None:
    wrong = [
        (shown(page), link)
        for page, text in texts()
        for link in re.findall(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)", text)
        if not (page.parent / link).exists()
    ]
    assert wrong == []


def test_tables_are_whole() -> None:
    """A row behind an empty line begins a table, so a line of dashes must follow it."""
    wrong = [
        shown(page, number)
        for page, text in texts()
        for number, (before, row, after) in enumerate(triples(text.splitlines()), 2)
        if row.startswith("|") and not before.startswith("|") and not re.fullmatch(r"\|([ :-]+\|)+", after)
    ]
    assert wrong == []


def triples(lines: list[str]) -> Iterator[tuple[str, str, str]]:
    return zip(lines, lines[1:], lines[2:], strict=False)


def test_changes_stand_once() -> None:
    """A merge that keeps the lines of both sides repeats those that one side has moved."""
    entries = Counter(re.findall(r"^- .*", HISTORY.read_text(encoding="utf-8"), re.MULTILINE))
    assert [entry for entry, times in entries.items() if times > 1] == []


def test_architecture_names_every_adapter() -> None:
    _, _, section = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("`adapters/` has one package")
    named = set(re.findall(r"`(\w+)`", section.partition("\n\n")[0]))
    folders = {path.relative_to(ADAPTERS).parts[0] for path in tracked() if ADAPTERS in path.parents}
    assert folders - {"__init__.py"} <= named
