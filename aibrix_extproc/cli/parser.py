"""The argument parser of all commands, and the layout of their help.

For an unknown word the parser suggests the nearest known one.
"""

import argparse
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from aibrix_extproc.core.nearest import did_you_mean

_USAGE_LINES: Final = 4


class Help(argparse.HelpFormatter):
    """Adds the default to the help of each option that has one and does not name it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return (action.help or "") + default_note(action).replace("%", "%%")


def default_note(action: argparse.Action) -> str:
    """` (default: X)`, or nothing: for a switch, for none, an empty or a hidden default, or one that the help names."""
    default = action.default
    if default is None or default is False or default in (argparse.SUPPRESS, "", []) or action.nargs == 0:
        return ""
    if "default" in (action.help or ""):
        return ""
    shown = " ".join(map(str, default)) if isinstance(default, list) else default
    return f" (default: {shown:g})" if isinstance(shown, float) else f" (default: {shown})"


class Parser(argparse.ArgumentParser):
    """As argparse's, with suggestions, and no positional argument may be empty. Sub-parsers are of the same class."""

    def parse_known_args(  # type: ignore[override]  # overloads that differ between Python versions
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown words here, where the options of the very command are known."""
        words = None if args is None else list(args)
        if words is not None:
            self._check_options(words)
        found, unknown = super().parse_known_args(words, namespace)
        if unknown and self._commands() is None:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown)}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End with 2, the message and the usage; a long usage would bury the message, so `--help` is named instead."""
        usage = self.format_usage()
        if usage.count("\n") > _USAGE_LINES:
            usage = f"usage: {self.prog} [OPTIONS], see {self.prog} --help\n"
        self.exit(2, f"{usage}{self.prog}: error: {message}\n")

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        if not text and not action.option_strings and not isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(action, "is empty")  # `show "$ID"` in a script that has set no ID
        return super()._get_value(action, text)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            hint = did_you_mean(str(value), known)
            message = f"invalid choice: {value!r}{hint} (choose from {', '.join(map(repr, known))})"
            raise argparse.ArgumentError(action, message)

    def _check_options(self, words: Sequence[str]) -> None:
        """Runs before argparse, which reports missing options before it reports misspelled ones."""
        mine = words if self._commands() is None else words[:1]  # what follows is the command's
        for word in mine:
            if word == "--":
                return
            if word.startswith("--") and " " not in word and not self._knows(word):
                self.error(f"unrecognized arguments: {word}{self._hint([word])}")

    def _knows(self, word: str) -> bool:
        option = word.partition("=")[0]
        return any(known.startswith(option) for known in self._option_string_actions)

    def _hint(self, unknown: Sequence[str]) -> str:
        options = (word.partition("=")[0] for word in unknown if word.startswith("-") and len(word) > 2)
        suggestions = (did_you_mean(option, self._option_string_actions) for option in options)
        return next(filter(None, suggestions), "")

    def _commands(self) -> argparse.Action | None:
        return next((one for one in self._actions if isinstance(one, argparse._SubParsersAction)), None)
