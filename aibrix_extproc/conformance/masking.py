"""Keys never show, and no text is longer than anybody reads."""

import re
from typing import Final

MOST_CHARACTERS: Final = 2000
MASK: Final = "***"
_LONG: Final = 8


class Mask:
    """Makes a text fit to be shown."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        # A short key may be a part of ordinary words: only where it stands alone is it the key.
        words = [
            re.escape(key) if len(key) >= _LONG else rf"(?<![\w-]){re.escape(key)}(?![\w-])"
            for key in sorted(secrets, key=len, reverse=True)
        ]
        self._secret = re.compile("|".join(words)) if words else None

    def __call__(self, text: str) -> str:
        """One line without keys; what cannot be printed is escaped."""
        hidden = self._secret.sub(MASK, text) if self._secret else text
        line = " ".join(hidden.split())
        shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line[: MOST_CHARACTERS + 1])
        return bounded(shown, MOST_CHARACTERS)


def bounded(text: str, most: int) -> str:
    """The text, cut at so many characters with a mark."""
    return text if len(text) <= most else text[: max(most - 3, 0)] + "..."
