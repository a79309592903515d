"""Command-line options derived from the settings: one per field, none typed twice."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from aibrix_extproc.settings import GROUPS, Settings, Tree, build, flag_name, is_list, sources


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


def _add(options: Any, group: str, name: str, field: FieldInfo, default: object) -> None:
    shared: dict[str, Any] = {"dest": f"{group}.{name}", "default": argparse.SUPPRESS, "help": field.description}
    if field.annotation is bool:
        options.add_argument(flag_name(group, name), action=argparse.BooleanOptionalAction, **shared)
    elif is_list(field):
        shared["help"] += " (repeatable)"
        options.add_argument(flag_name(group, name), action="append", metavar="VALUE", **shared)
    else:
        if default is not None:
            shared["help"] += f" (default: {default:g})" if isinstance(default, float) else f" (default: {default})"
        options.add_argument(flag_name(group, name), metavar="VALUE", **shared)


def settings_of(args: argparse.Namespace) -> Settings:
    """The effective settings of a command. Raises SettingsError with one line for each wrong value."""
    return build(given_settings(args), file=args.config)


def given_settings(args: argparse.Namespace) -> dict[str, Tree]:
    """The values of file, environment and flags, from low precedence to high."""
    flags: Tree = {}
    for key, value in vars(args).items():
        group, dot, name = key.partition(".")
        if dot:
            flags.setdefault(group, {})[name] = value
    return sources(file=args.config, flags=flags)
