"""docs/command-line.md: every command with its options.

Drawn from the parsers' actions instead of `format_help`, whose layout differs between Python versions and terminals.
"""

import argparse
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from aibrix_extproc.cli.main import COMMANDS, Command, parser_for
from aibrix_extproc.cli.parser import Help, default_note
from aibrix_extproc.cli.reference_markdown import page, table

WIDTH: Final = 100
_HELP_COLUMN: Final = 30

_HEAD: Final = """
`aibrix-extproc COMMAND [OPTIONS]`; `aibrix-extproc COMMAND --help` shows the same at your terminal, and
`aibrix-extproc --version` the version. `python -m aibrix_extproc` does what `aibrix-extproc` does. A command that is
used wrongly exits with 2 and says on standard error what is wrong.
"""


def command_line_page() -> str:
    """The page."""
    overview = table(("command", "what it does"), ((f"[{one.name}](#{one.name})", one.summary) for one in COMMANDS))
    return page("Command line", _HEAD, overview, *(_section(command) for command in COMMANDS))


def _section(command: Command) -> str:
    return "\n\n".join(_described(command.name, _verbs(parser_for(command.name))[command.name], level=2))


def _described(name: str, parser: argparse.ArgumentParser, *, level: int) -> Iterator[str]:
    """A command and, below it, its verbs if it has some."""
    yield f"{'#' * level} {name}"
    if parser.description:
        yield parser.description
    defaults = parser.formatter_class is Help
    groups = [drawn for group in parser._action_groups if (drawn := "\n".join(_group(group, defaults=defaults)))]
    if groups:
        yield "```text\n" + "\n\n".join(groups) + "\n```"
    for verb, inner in _verbs(parser).items():
        yield from _described(f"{name} {verb}", inner, level=level + 1)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {name: inner for action in found for name, inner in action.choices.items()}


def _group(group: Any, *, defaults: bool) -> Iterator[str]:
    shown = [
        action
        for action in group._group_actions
        if action.help is not argparse.SUPPRESS
        and not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)
    ]
    if not shown:
        return
    yield f"{group.title}:"
    for action in shown:
        yield from _option(action, defaults=defaults)


def _option(action: argparse.Action, *, defaults: bool) -> Iterator[str]:
    name = _invocation(action)
    lines = textwrap.wrap(
        _meaning(action, defaults=defaults), WIDTH - _HELP_COLUMN, break_long_words=False, break_on_hyphens=False
    )
    if len(name) > _HELP_COLUMN - 4:
        yield f"  {name}"
    else:
        first = lines.pop(0) if lines else ""
        yield f"  {name:<{_HELP_COLUMN - 2}}{first}".rstrip()
    yield from (" " * _HELP_COLUMN + line for line in lines)


def _invocation(action: argparse.Action) -> str:
    value = action.metavar
    if value is None and action.nargs != 0:
        value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    if isinstance(value, tuple):
        value = " ".join(value)
    if not action.option_strings:
        return value or action.dest
    return ", ".join(action.option_strings) + (f" {value}" if value and action.nargs != 0 else "")


def _meaning(action: argparse.Action, *, defaults: bool) -> str:
    """The help text with its placeholders filled in, and the default behind it where the terminal shows it too."""
    text = action.help or ""
    filled = text % {**vars(action), "prog": "aibrix-extproc"} if "%" in text else text
    if action.required and action.option_strings:
        filled += " (required)"
    return filled + default_note(action) if defaults else filled
