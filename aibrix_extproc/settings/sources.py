"""Reads settings from a YAML file and from the environment. Structure is checked here, values are not yet."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

import yaml

from aibrix_extproc.config_files import depth
from aibrix_extproc.settings.groups import ENV_NESTED_DELIMITER, ENV_PREFIX, GROUPS, fields_of, is_list, variable_name

Tree = dict[str, dict[str, Any]]

_SERVICE_LINK: Final = re.compile(r"(\w+_)?(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP|SCTP)\w*)=.*|(\w+_)?PORT=\w+://.*")


class SettingsError(Exception):
    """The configuration cannot be used; the message says where and what to do."""


def read_file(path: Path) -> Tree:
    """The settings file as nested mappings, structure checked, values not yet."""
    try:
        content = depth.load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not UTF-8; save it as UTF-8") from error
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{line} is not valid YAML: {problem or error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(group, dict) for group in content.values()):
        raise SettingsError(f"{path}: expected groups of settings ({', '.join(GROUPS)}), each a mapping")
    return content


def read_environment(environment: dict[str, str] | None = None) -> Tree:
    """Settings from variables such as AIBRIX_EXTPROC_SERVER__PORT; lists are comma-separated, or JSON."""
    tree: Tree = {}
    for name, value in (dict(os.environ) if environment is None else environment).items():  # noqa: TID251 (the one reader)
        if not name.startswith(ENV_PREFIX) or not value:
            continue
        group, delimiter, field = name.removeprefix(ENV_PREFIX).lower().partition(ENV_NESTED_DELIMITER)
        if not delimiter and _SERVICE_LINK.fullmatch(f"{name.removeprefix(ENV_PREFIX)}={value}"):
            continue  # Kubernetes describes a Service of our name to every pod beside it
        if not delimiter:
            raise SettingsError(f"{name}: expected {ENV_PREFIX}<GROUP>{ENV_NESTED_DELIMITER}<FIELD>")
        tree.setdefault(group, {})[field] = _items(value) if _is_list(group, field) else value
    return tree


def environment_with(tree: Tree) -> dict[str, str]:
    """The environment of a process that we start, with settings added: its arguments are open to other users."""
    found = dict(os.environ)  # noqa: TID251 (the one reader)
    for group, fields in tree.items():
        for field, value in fields.items():
            found[variable_name(group, field)] = json.dumps(value) if _is_list(group, field) else str(value)
    return found


def _items(value: str) -> list[str]:
    """A list as JSON, which may hold commas, or as texts between commas."""
    try:
        found = json.loads(value) if value.startswith("[") else None
    except ValueError:
        found = None
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return found
    return value.split(",")


def _is_list(group: str, name: str) -> bool:
    field = fields_of(group).get(name)
    return field is not None and is_list(field)
