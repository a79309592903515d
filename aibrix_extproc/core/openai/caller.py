"""Who calls: the authenticated identity behind an API key."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity; `name` is what logs and metrics may show."""

    name: str


ANYONE: Final = Caller("anyone")  # when the gateway asks for no keys
