"""A setting that nothing reads would be a promise without an effect."""

import ast
from collections.abc import Iterable
from functools import cache

import pytest

from aibrix_extproc.settings import Settings
from aibrix_extproc.settings.groups import fields_of
from tests.architecture.sources import PACKAGE, python_files, tree

FIELDS = [(group, name) for group in Settings.model_fields for name in fields_of(group)]


def names_read(module: ast.Module) -> set[str]:
    """Every attribute that a module reads, and every name that it imports."""
    imported = {alias.name for node in ast.walk(module) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return imported | {
        node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@cache
def modules() -> tuple[frozenset[str], ...]:
    files = (path for path in python_files(PACKAGE) if not path.is_relative_to(PACKAGE / "settings"))
    return tuple(frozenset(names_read(tree(path))) for path in files)


def is_read(group: str, group_class: str, name: str, read: Iterable[frozenset[str]]) -> bool:
    """Whether a module that has to do with the group reads an attribute of this name."""
    return any(name in found and (group in found or group_class in found) for found in read)


@pytest.mark.parametrize(("group", "name"), FIELDS)
def test_setting_is_read(group: str, name: str) -> None:
    declared = Settings.model_fields[group].annotation
    assert declared is not None
    assert is_read(group, declared.__name__, name, modules()), f"nothing reads {group}.{name}: use it or take it out"


def test_setting_that_nothing_reads_would_be_found() -> None:
    read = [frozenset(names_read(ast.parse("def f(settings):\n    settings.log.brand_new = settings.server.port")))]
    assert is_read("server", "ServerSettings", "port", read)
    assert not is_read("log", "LogSettings", "brand_new", read), "it is only written"
    assert not is_read("server", "ServerSettings", "host", read)
