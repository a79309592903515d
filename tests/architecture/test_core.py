"""The core is values and pure functions: never async, frozen where values cross borders, no hidden state."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.sources import CORE, called, python_files, shown, tree

CORE_FILES = python_files(CORE)

# Dataclasses that may change after they were made, each with the reason.
CHANGEABLE: dict[str, str] = {}

MUTABLE_CALLS = ("dict", "list", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict")
MUTATING = (
    "append", "extend", "insert", "remove", "pop", "popitem", "clear", "update", "setdefault", "add", "discard", "sort",
    "reverse", "appendleft", "extendleft",
)  # fmt: skip


def test_there_is_a_core() -> None:
    assert len(CORE_FILES) > 20


def test_core_is_never_async() -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    found = [
        shown(path, getattr(node, "lineno", 0))
        for path in CORE_FILES
        for node in ast.walk(tree(path))
        if isinstance(node, waiting)
    ]
    assert found == []


def dataclasses_of(path: Path) -> Iterator[tuple[ast.ClassDef, ast.expr]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if called(decorator) == "dataclass":
                    yield node, decorator


def test_dataclasses_of_core_are_frozen_and_slotted() -> None:
    loose = set()
    seen = 0
    for path in CORE_FILES:
        for node, decorator in dataclasses_of(path):
            seen += 1
            options = {word.arg: word.value for word in decorator.keywords} if isinstance(decorator, ast.Call) else {}
            given = [
                isinstance(value := options.get(name), ast.Constant) and value.value is True
                for name in ("frozen", "slots")
            ]
            if not all(given):
                loose.add(f"{shown(path)} {node.name}")
    assert seen > 30
    assert loose == set(CHANGEABLE), "frozen=True, slots=True; or an entry in CHANGEABLE with its reason"


def test_structs_of_core_that_have_a_public_name_are_frozen() -> None:
    public = {
        f"{shown(path)} {node.name}": {word.arg for word in node.keywords if getattr(word.value, "value", None) is True}
        for path in CORE_FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if any(called(base) == "Struct" for base in node.bases)
    }
    assert len(public) > 20
    assert {name for name, options in public.items() if "frozen" not in options} == set()


def containers(module: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Names at module level that hold a container which can be changed."""
    for statement in module.body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        literal = isinstance(value, ast.Dict | ast.List | ast.Set | ast.DictComp | ast.ListComp | ast.SetComp)
        if literal or (isinstance(value, ast.Call) and called(value) in MUTABLE_CALLS):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement


def changed_names(module: ast.Module) -> set[str]:
    """Names whose contents some code of the module changes, wherever it stands."""
    changed: set[str] = set()
    for node in ast.walk(module):
        target: ast.expr | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            target = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            target = node.func.value
        elif isinstance(node, ast.AugAssign):
            target = node.target
        if isinstance(target, ast.Name):
            changed.add(target.id)
    return changed


def loose_containers(module: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Containers at module level that are state, or could become it."""
    changed = changed_names(module)
    for name, statement in containers(module):
        if name == "__all__":
            continue
        final = isinstance(statement, ast.AnnAssign) and called(statement.annotation) == "Final"
        if name in changed:
            yield name, statement.lineno, "is changed"
        elif not name.startswith("_"):
            yield name, statement.lineno, "is public: make it a tuple, a frozenset or a MappingProxyType"
        elif not final:
            yield name, statement.lineno, "is not Final"


def test_core_has_no_state_at_module_level() -> None:
    found = [
        f"{shown(path, line)} {name} {reason}"
        for path in CORE_FILES
        for name, line, reason in loose_containers(tree(path))
    ]
    assert found == []


def test_state_at_module_level_would_be_found() -> None:
    module = ast.parse(
        "PUBLIC = {}\n_loose = []\n_ok: Final = {1: 2}\n_written: Final[dict[str, int]] = {}\n"
        "def use():\n    _written['x'] = 1\n_grown: Final = set()\ndef grow():\n    _grown.add(1)\n"
    )
    assert [name for name, _, _ in loose_containers(module)] == ["PUBLIC", "_loose", "_written", "_grown"]


def test_core_has_no_global_statement() -> None:
    assert [
        shown(path, node.lineno)
        for path in CORE_FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Global | ast.Nonlocal)
    ] == []
