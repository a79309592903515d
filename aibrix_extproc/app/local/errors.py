"""Why `local` cannot start, or go on."""

from typing import Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2


class LocalError(Exception):
    """Why `local` cannot start or go on: one sentence, and the exit code."""

    def __init__(self, message: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
