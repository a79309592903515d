"""What the setting, a profile or the header says as a strategy: a name, or names with weights.

`least-request:2,random:1` is written as with AIBrix: whole weights up to a million, 1 where there is none, and 0 leaves
a part out.
"""

import re
from functools import lru_cache
from typing import Final

import msgspec

from aibrix_extproc.core.routing.registry import NOT_HERE, STRATEGIES
from aibrix_extproc.core.routing.signals import Need

MAX_PARTS: Final = 8
MAX_WEIGHT: Final = 1_000_000
MAX_CHARACTERS: Final = 512

_WEIGHT: Final = re.compile("[0-9]{1,7}")
_SHOWN: Final = 64  # characters of one part in a message


class InvalidMix(ValueError):
    """The text is no strategy and no combination of some; says why. `names` are the parts that are not here."""

    def __init__(self, reason: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.names = names


class Mix(msgspec.Struct, frozen=True, gc=False):
    """Strategies of the registry with their weights, each once, all above zero."""

    parts: tuple[tuple[str, int], ...]

    @property
    def label(self) -> str:
        """The one spelling of this mix; a strategy that decides alone is its name."""
        if len(self.parts) == 1:
            return self.parts[0][0]
        return ",".join(f"{name}:{weight}" for name, weight in self.parts)

    @property
    def needs(self) -> frozenset[Need]:
        """The signals that its parts read, and a tick for the ties of a combination."""
        ties = () if len(self.parts) == 1 else (Need.TICK,)
        return frozenset().union(ties, *(STRATEGIES[name].spec.needs for name, _ in self.parts))


@lru_cache(maxsize=256)  # so many texts of at most 512 characters, whoever writes them
def parse_mix(text: str) -> Mix:
    """Read a strategy or a combination, in any case. Raises InvalidMix, and nothing else."""
    if len(text) > MAX_CHARACTERS:
        is_name = "," not in text and ":" not in text
        raise InvalidMix(f"It has over {MAX_CHARACTERS} characters.", (text.strip().lower(),) if is_name else ())
    words = text.lower().split(",")
    if len(words) > MAX_PARTS:
        raise InvalidMix(f"It has over {MAX_PARTS} parts.")
    weights: dict[str, int] = {}
    for word in words:
        name, weight = _part(word)
        if name in weights:
            raise InvalidMix(f"'{name}' is named twice.")
        weights[name] = weight
    absent = tuple(name for name in weights if name not in STRATEGIES)
    if absent:
        raise InvalidMix(_absent(absent[0]), absent)
    kept = tuple((name, weight) for name, weight in weights.items() if weight)
    if not kept:
        raise InvalidMix("All of its weights are 0.")
    return Mix(kept)


def _part(word: str) -> tuple[str, int]:
    name, colon, weight = (text.strip() for text in word.partition(":"))
    if not name:
        raise InvalidMix("A part of it has no name.")
    if not colon:
        return name, 1
    if not _WEIGHT.fullmatch(weight) or int(weight) > MAX_WEIGHT:
        raise InvalidMix(f"The weight of '{name[:_SHOWN]}' is no whole number from 0 to {MAX_WEIGHT}.")
    return name, int(weight)


def _absent(name: str) -> str:
    if name in NOT_HERE:
        return f"AIBrix's own gateway has '{name}', this one does not; '{NOT_HERE[name]}' comes nearest."
    return f"There is no strategy '{name[:_SHOWN]}'."
