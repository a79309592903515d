"""Command-line options derived from the settings: one per field, none typed twice."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from aibrix_extproc.settings import GROUPS, Settings, Tree, sources


def add_settings_arguments(
    parser: argparse.ArgumentParser, groups: Sequence[str] = GROUPS, defaults: Tree | None = None
) -> None:
    """`--config FILE` and an option for every setting of some groups, all by default.

    `defaults` are those of a command that has others than the settings themselves; help shows them.
    """
    parser.usage = f"{parser.prog} [OPTIONS]"  # all of them by name would bury what is wrong with one
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (YAML)")
    for group in groups:
        options = parser.add_argument_group(f"{group} settings")
        for name, field in Settings.model_fields[group].annotation.model_fields.items():  # type: ignore[union-attr]
            _add(options, group, name, field, (defaults or {}).get(group, {}).get(name, field.default))


def flag_name(group: str, name: str, field: FieldInfo) -> str:
    """The option of a setting."""
    extra = field.json_schema_extra
    given = extra.get("flag") if isinstance(extra, dict) else None
    return str(given) if given else f"--{group}-{name}".replace("_", "-")


def is_list(field: FieldInfo) -> bool:
    """Whether a setting takes several values, so that its option may be repeated."""
    return str(field.annotation).startswith("tuple")


def _add(options: Any, group: str, name: str, field: FieldInfo, default: object) -> None:
    shared: dict[str, Any] = {"dest": f"{group}.{name}", "default": argparse.SUPPRESS, "help": field.description}
    if field.annotation is bool:
        options.add_argument(flag_name(group, name, field), action=argparse.BooleanOptionalAction, **shared)
    elif is_list(field):
        shared["help"] += " (repeatable)"
        options.add_argument(flag_name(group, name, field), action="append", metavar="VALUE", **shared)
    else:
        if default is not None:
            shared["help"] += f" (default: {default})"
        options.add_argument(flag_name(group, name, field), metavar="VALUE", **shared)


def given_settings(args: argparse.Namespace) -> dict[str, Tree]:
    """What file, environment and flags say, from low precedence to high."""
    flags: Tree = {}
    for key, value in vars(args).items():
        group, dot, name = key.partition(".")
        if dot:
            flags.setdefault(group, {})[name] = value
    return sources(file=args.config, flags=flags)
