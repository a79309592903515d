"""Tables are complete, and every row is in use: an error that nobody raises is a promise to nobody."""

import ast
import importlib
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aibrix_extproc.adapters.telemetry import metrics
from aibrix_extproc.app.metadata.metrics import METADATA_METRICS
from aibrix_extproc.cli.main import COMMANDS
from aibrix_extproc.core.openai.contract import errors
from aibrix_extproc.core.openai.contract.errors import ERRORS
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.routing.registry import STRATEGIES
from tests.architecture.sources import CORE, PACKAGE, ROOT, called, python_files, shown, tree


def words_of(*paths: Path) -> set[str]:
    """Every string constant of some modules."""
    return {
        node.value
        for path in paths
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_strategy_file_is_in_the_registry() -> None:
    files = [path for path in python_files(CORE / "routing" / "scorers") if path.stem != "__init__"]
    modules = {importlib.import_module(f"aibrix_extproc.core.routing.scorers.{path.stem}").SPEC.name for path in files}
    assert modules == set(STRATEGIES)
    assert len(files) == len(STRATEGIES)


def test_every_file_of_the_http2_server_is_in_the_table_of_the_architecture() -> None:
    _, _, section = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition("## The HTTP/2 server\n")
    rows = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    told = re.findall(r"`(\w+\.py)`", "".join(row.split("|")[1] for row in rows))
    files = [path.name for path in python_files(PACKAGE / "http2")]
    assert sorted(told) == sorted(name for name in files if name != "__init__.py")


def test_every_error_is_used() -> None:
    rows = Path(errors.__file__).parent / "rows"
    used = words_of(*(path for path in python_files(PACKAGE) if not path.is_relative_to(rows)))
    assert sorted(set(ERRORS) - used) == []


def problems() -> Iterator[tuple[Path, ast.Call, str]]:
    """Calls of Problem(...) that name their row literally."""
    for path in python_files(PACKAGE):
        for node in () if path.is_relative_to(PACKAGE / "simulator") else ast.walk(tree(path)):
            if isinstance(node, ast.Call) and called(node) == "Problem" and node.args:
                key = node.args[0]
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield path, node, key.value


def test_every_problem_names_a_row_and_fills_its_words() -> None:
    wrong, seen = [], 0
    for path, node, key in problems():
        seen += 1
        if key not in ERRORS:
            wrong.append(f"{shown(path, node.lineno)}: write the row {key} in core/openai/contract/rows/errors_*.py")
            continue
        wanted = {name for _, name, _, _ in string.Formatter().parse(ERRORS[key].message) if name}
        given = _given(node)
        if given is not None and not wanted <= given:
            wrong.append(f"{shown(path, node.lineno)}: {key} lacks {sorted(wanted - given)}")
    assert seen > 20
    assert wrong == []


def _given(node: ast.Call) -> set[str] | None:
    """The values that a Problem is given; None if that cannot be read here."""
    values = (
        node.args[1] if len(node.args) > 1 else next((one.value for one in node.keywords if one.arg == "values"), None)
    )
    if values is None:
        return set()
    if not isinstance(values, ast.Dict) or None in values.keys:
        return None
    return {key.value for key in values.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}


def test_every_metric_is_fed() -> None:
    nodes = (node for path in python_files(PACKAGE) for node in ast.walk(tree(path)) if isinstance(node, ast.Constant))
    names = Counter(node.value for node in nodes)
    once = [name for name in (*metrics.METRICS, *METADATA_METRICS) if names[name] < 2]
    assert once == [], "a metric that only its table knows"


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_its_module(command: object) -> None:
    module = importlib.import_module(getattr(command, "module", ""))
    assert callable(module.add_arguments)
    assert callable(module.run)


def ids_asked(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Comparisons of something's `id` or `path` with the id or path of an operation, which a column should say."""
    known = {name for row in OPERATIONS for name in (row.id, row.path)}
    for node in ast.walk(module):
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr in ("id", "path"):
            for one in node.comparators:
                constants = {part.value for part in ast.walk(one) if isinstance(part, ast.Constant)}
                yield from ((node.lineno, str(name)) for name in constants & known)


def test_code_asks_columns_of_an_operation_not_its_id_or_path() -> None:
    rooms = (CORE, PACKAGE / "app", PACKAGE / "adapters", PACKAGE / "http2")
    assert [
        f"{shown(path, line)} {name}: make it a column of Operation in core/openai/contract/operations.py"
        for room in rooms
        for path in python_files(room)
        for line, name in ids_asked(tree(path))
    ] == []


def test_id_that_is_asked_would_be_found() -> None:
    source = (
        "a = operation.id == 'response'\nb = row.operation.id in ('score', 'x')\nc = request.path != '/v1/responses'"
    )
    assert [line for line, _ in ids_asked(ast.parse(source))] == [1, 2, 3]
    assert list(ids_asked(ast.parse("file.id == file_id or model.id == 'score-model'"))) == []


@pytest.mark.parametrize("name", [*metrics.METRICS, *METADATA_METRICS])
def test_every_metric_is_described(name: str) -> None:
    _, _, description = {**metrics.METRICS, **METADATA_METRICS}[name]
    assert description.endswith("."), f"say in a sentence what {name} counts: the last column of its row"
