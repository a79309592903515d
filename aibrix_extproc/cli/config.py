"""`aibrix-extproc config`: the effective settings, one a line, and where each came from; what is wrong with them.

It ends with 0 if `serve` would start with them, so it can be asked before a gateway is.
"""

import argparse
import json
import sys
from typing import Final

from pydantic import SecretStr

from aibrix_extproc.cli.flags import add_settings_arguments, given_settings
from aibrix_extproc.settings import Settings, SettingsError, Tree, build

EXIT_SETTINGS: Final = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The same options as `serve`, and `--json`."""
    add_settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print; 0 if `serve` would start with these settings and read its files, 2 if not."""
    try:
        by_source = given_settings(args)
        settings = build(by_source, file=args.config)
    except SettingsError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    _print(settings, by_source, as_json=args.json)
    sys.stdout.flush()
    from aibrix_extproc.app.dry_start import start_warnings

    wrong = start_warnings(settings)
    for sentence in wrong:
        print(f"aibrix-extproc: {sentence}", file=sys.stderr)
    return EXIT_SETTINGS if wrong else 0


def _print(settings: Settings, by_source: dict[str, Tree], *, as_json: bool) -> None:
    rows = []
    for group in Settings.model_fields:
        values = getattr(settings, group)
        for name in type(values).model_fields:
            origin = next((s for s in reversed(by_source) if name in by_source[s].get(group, {})), "default")
            rows.append((f"{group}.{name}", getattr(values, name), origin))
    if as_json:
        print(json.dumps({key: {"value": plain(value), "from": origin} for key, value, origin in rows}, indent=2))
        return
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        print(f"{key:<{width}}  {shown(value)}  ({origin})")


def plain(value: object) -> object:
    """A value as JSON has it: numbers as numbers, lists as lists, null for none; secrets are never shown."""
    if isinstance(value, tuple):
        return [plain(one) for one in value]
    return value if value is None or type(value) in (bool, int, float) else shown(value)


def shown(value: object) -> str:
    """A value as it may be printed: secrets are counted, never shown."""
    if isinstance(value, SecretStr):
        return "***"
    if isinstance(value, tuple):
        return ",".join(shown(one) for one in value) or "-"
    return "-" if value is None else str(value)
