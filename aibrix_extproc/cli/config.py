"""`aibrix-extproc config`: the effective settings, one a line, and where each came from."""

import argparse
import json
import sys

from pydantic import SecretStr

from aibrix_extproc.cli.flags import add_settings_arguments, given_settings
from aibrix_extproc.settings import Settings, SettingsError, build


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The same options as `serve`, and `--json`."""
    add_settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print; exit 2 if the settings cannot be used."""
    try:
        by_source = given_settings(args)
        settings = build(by_source)
    except SettingsError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return 2
    rows = []
    for group in Settings.model_fields:
        values = getattr(settings, group)
        for name in type(values).model_fields:
            origin = next((s for s in reversed(by_source) if name in by_source[s].get(group, {})), "default")
            rows.append((f"{group}.{name}", shown(getattr(values, name)), origin))
    if args.json:
        print(json.dumps({key: {"value": value, "from": origin} for key, value, origin in rows}, indent=2))
        return 0
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        print(f"{key:<{width}}  {value}  ({origin})")
    return 0


def shown(value: object) -> str:
    """A value as it may be printed: secrets are counted, never shown."""
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, tuple):
        return ",".join(shown(one) for one in value) or "-"
    return "-" if value is None else str(value)
