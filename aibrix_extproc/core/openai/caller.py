"""Who calls: the authenticated identity behind an API key, and what it may do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity with its permissions; `name` is what logs and metrics may show.

    `models` are shell-style patterns and `operations` ids of the operations table; None means all of them.
    """

    name: str
    models: tuple[str, ...] | None = None
    operations: frozenset[str] | None = None
    admin: bool = False  # kept for an interface to operate engines; the gateway refuses that to everybody
    engine_controls: bool = False  # may send what steers engines: the rows of CONTROLS
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def may_use_model(self, model: str) -> bool:
        """Whether the model exists as far as this caller is concerned."""
        return self.models is None or any(fnmatchcase(model, pattern) for pattern in self.models)

    def may_use_operation(self, operation: str) -> bool:
        """Whether the caller may call this operation at all."""
        return self.operations is None or operation in self.operations


ANYONE: Final = Caller("anyone")  # when the gateway asks for no keys
