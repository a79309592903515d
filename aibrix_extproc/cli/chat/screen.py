"""The output of the chat. Colours only on a terminal, and none where NO_COLOR is set."""

import sys
from typing import Final

from aibrix_extproc.cli.colours import console

# Control characters of an answer could move the cursor or rewrite the screen; line breaks and tabs pass.
_CONTROLS: Final = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Screen:
    """Answers on standard output; everything else there, too, if that is a terminal, or on standard error."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._out = console(sys.stdout)
        self._mistakes = console(sys.stderr)
        self._notes = self._out if self.is_terminal else self._mistakes

    def piece(self, text: str, *, thought: bool = False) -> None:
        """A part of an answer, as it comes."""
        self._out.write(text.translate(_CONTROLS) if self.is_terminal else text, "dim italic" if thought else "")

    def end_of_answer(self) -> None:
        """A line break after an answer."""
        self._out.write("\n")

    def note(self, text: str) -> None:
        """A line that is no answer."""
        self._notes.write(text.translate(_CONTROLS) + "\n", "dim")

    def error(self, text: str) -> None:
        """A line about what went wrong."""
        self._mistakes.write(text.translate(_CONTROLS) + "\n", "red")
