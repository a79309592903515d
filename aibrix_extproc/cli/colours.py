"""Text in colours where a terminal shows them: never in a file or a pipe, nor where NO_COLOR is set or TERM is dumb.

rich decides that, if it is installed; without it, all text is plain.
"""

from typing import TextIO


class PlainConsole:
    """Writes text as it is."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str, style: str = "") -> None:
        """Write and flush; styles are for terminals."""
        del style
        self._file.write(text)
        self._file.flush()


class ColourConsole(PlainConsole):
    """Writes text in the style given, as rich does."""

    def __init__(self, file: TextIO) -> None:
        super().__init__(file)
        from rich.console import Console

        self._console = Console(file=file, highlight=False, markup=False, soft_wrap=True)

    def write(self, text: str, style: str = "") -> None:
        """Write and flush; line breaks stay outside of the style."""
        if not style or self._console.no_color or self._console.color_system is None:
            super().write(text)
            return
        for number, line in enumerate(text.split("\n")):
            if number:
                self._file.write("\n")
            if line:
                self._console.out(line, style=style, end="", highlight=False)
        self._file.flush()


def console(file: TextIO) -> PlainConsole:
    """The console for a stream."""
    if not file.isatty():
        return PlainConsole(file)
    try:
        return ColourConsole(file)
    except ModuleNotFoundError:
        return PlainConsole(file)
