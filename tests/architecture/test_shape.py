"""Files and functions stay small enough to be read at once, and say what they are; tests have patience."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGE, ROOT, functions, python_files, shown, tree
from tests.architecture.waits import SHORT, short_waits

MAX_FILE_LINES = 400
MAX_BODY_LINES = 60
MAX_DOCSTRING_LINES = 8
EMPTY_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "base", "manager")


def table_lines(module: ast.Module) -> int:
    """Lines of tables: assignments at module level that only hold values."""
    tables = [node for node in module.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in tables if node.end_lineno != node.lineno)


def test_no_file_is_longer_than_a_sitting() -> None:
    """Tables do not count: nobody reads them from top to bottom."""
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert sizes
    long = {shown(path): size - table_lines(tree(path)) for path, size in sizes.items() if size > MAX_FILE_LINES}
    assert {name: size for name, size in long.items() if size > MAX_FILE_LINES} == {}


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef, code_lines: set[int]) -> int:
    """Lines of a body that hold code: no docstring, no comments, no blank lines."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    if not body:
        return 0
    return len([line for line in range(body[0].lineno, (node.end_lineno or 0) + 1) if line in code_lines])


def code_lines(path: Path) -> set[int]:
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    return {line for token in tokens if token.type not in silent for line in range(token.start[0], token.end[0] + 1)}


def long_functions() -> Iterator[str]:
    for path in python_files():
        # Reading tokens is slow, and most modules have no function that is long with its comments.
        long = [one for one in functions(tree(path)) if (one.end_lineno or 0) - one.lineno > MAX_BODY_LINES]
        lines = code_lines(path) if long else set()
        for node in long:
            size = body_lines(node, lines)
            if size > MAX_BODY_LINES:
                yield f"{shown(path, node.lineno)} {node.name}: {size} lines"


def test_no_function_is_longer_than_a_screen() -> None:
    assert list(long_functions()) == []


def test_every_module_says_in_a_few_lines_what_it_is() -> None:
    wrong = []
    for path in python_files(PACKAGE):
        said = ast.get_docstring(tree(path))
        if not tree(path).body:
            continue  # a package without a rule of its own
        if said is None or len(said.splitlines()) > MAX_DOCSTRING_LINES:
            wrong.append(shown(path))
    assert wrong == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [shown(path) for path in python_files() if path.stem in EMPTY_NAMES] == []


def test_no_wait_is_shorter_than_a_busy_machine_may_need() -> None:
    found = {shown(path, line) for path in python_files(ROOT / "tests") for line in short_waits(tree(path))}
    assert {place for place in found if place.partition(":")[0] not in SHORT} == set()
    assert {place.partition(":")[0] for place in found} == SHORT.keys(), "exceptions that nothing needs"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("until(x, seconds=0.1)", [1]), ("tests.eventually(x, 'y', seconds=9)", [1]), ("asyncio.timeout(0.2)", [1]),
        ("to_thread(eventually, x, seconds=2)", [1]),
        ("asyncio.wait_for(x(), 1)", [1]), ("ClientTimeout(total=5)", [1]), ("until(x)", []),
        ("until(x, seconds=60)", []), ("asyncio.timeout(PATIENCE)", []),
    ],
)  # fmt: skip
def test_short_wait_would_be_found(text: str, lines: list[int]) -> None:
    assert list(short_waits(ast.parse(text))) == lines
