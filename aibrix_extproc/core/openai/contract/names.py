"""Questions about names that clients choose, each answered once."""

from collections.abc import Callable
from typing import Final

MAX_REMEMBERED: Final = 4096  # names; then all are forgotten
MAX_NAME_CHARACTERS: Final = 128  # of a name that is remembered


class Names(dict[str, bool]):
    """`names[name]` is the verdict on a name. It costs a lookup in a dict, where a function would cost a call."""

    def __init__(self, judge: Callable[[str], bool]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, name: str) -> bool:
        verdict = self._judge(name)
        if len(name) <= MAX_NAME_CHARACTERS:
            if len(self) >= MAX_REMEMBERED:
                self.clear()
            self[name] = verdict
        return verdict
