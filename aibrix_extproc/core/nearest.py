"""The known word that somebody most likely meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

LIKENESS: Final = 0.6
MAX_CHARACTERS: Final = 64  # of what was written; comparing costs its square


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or nothing if no known word is alike."""
    plain = {one.lstrip("-/"): one for one in known}  # what all options begin with makes none of them alike
    found = get_close_matches(word[:MAX_CHARACTERS].lstrip("-/"), plain, n=1, cutoff=LIKENESS)
    return f"; did you mean {plain[found[0]]}?" if found else ""
