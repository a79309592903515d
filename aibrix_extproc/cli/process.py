"""The start that is shared by the commands which serve until they are stopped."""

import sys
from collections.abc import Callable
from typing import Final

from aibrix_extproc.settings import Settings, SettingsError

EXIT_SETTINGS: Final = 2


def with_settings(read: Callable[[], Settings], run: Callable[[Settings], int]) -> int:
    """The exit code of `run`; 2 and a sentence if the settings cannot be read."""
    try:
        settings = read()
    except SettingsError as error:
        print(f"aibrix-extproc: {error}", file=sys.stderr)
        return EXIT_SETTINGS
    return run(settings)
