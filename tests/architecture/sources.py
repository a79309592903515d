"""The repository's own files, and Python ones as syntax trees. Shared by the tests of this folder."""

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aibrix_extproc"
CORE = PACKAGE / "core"


@cache
def tracked() -> tuple[Path, ...]:
    """Files that are in the repository or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return tuple(path for name in sorted(listed.split("\0")) if name and (path := ROOT / name).is_file())


def python_files(under: Path = ROOT) -> list[Path]:
    """Python modules below a folder, generated ones left out."""
    return [path for path in tracked() if path.suffix == ".py" and path.is_relative_to(under)]


@cache
def tree(path: Path) -> ast.Module:
    """A module, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"))


def shown(path: Path, line: int | None = None) -> str:
    """A place as an editor opens it."""
    where = path.relative_to(ROOT).as_posix()
    return where if line is None else f"{where}:{line}"


def called(node: ast.expr) -> str:
    """The last word of what is called or named: `field` of dataclasses.field(...)."""
    if isinstance(node, ast.Call):
        return called(node.func)
    if isinstance(node, ast.Subscript):
        return called(node.value)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function, methods and inner ones too."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
