"""The argument parser of all commands. For an unknown word it suggests the nearest known one."""

import argparse
from collections.abc import Sequence
from typing import Any

from aibrix_extproc.core.nearest import did_you_mean


class Parser(argparse.ArgumentParser):
    """As argparse's, with suggestions. Sub-parsers are of the same class."""

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
