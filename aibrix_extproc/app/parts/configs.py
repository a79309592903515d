"""Warns of models' configurations that cannot be obeyed: in the log, and on the health page."""

import logging
from collections.abc import Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.fleet.modelconfig import ModelConfig
from aibrix_extproc.core.routing.plan import unknown_strategies

logger = logging.getLogger(__name__)

MAX_WARNINGS: Final = 100  # on the health page; the log has them all


class ConfigLog(Part):
    """Subscribe `log_changes` to the fleet store."""

    name = "configs"

    def __init__(self, default_strategy: str) -> None:
        self._default = default_strategy
        self._configs: Mapping[str, ModelConfig] = MappingProxyType({})
        self.warnings: Mapping[str, str] = MappingProxyType({})  # by model

    def log_changes(self, snapshot: Snapshot) -> None:
        """Look at the configurations if they differ from those of the snapshot before."""
        if snapshot.configs is self._configs or snapshot.configs == self._configs:
            return
        self._configs = snapshot.configs
        before, self.warnings = self.warnings, MappingProxyType(dict(self._warnings()))
        for model, warning in self.warnings.items():
            if before.get(model) != warning:
                logger.warning("a model's configuration cannot be obeyed", extra={"model": model, "detail": warning})

    def report(self) -> Mapping[str, str] | None:
        """The parts of configurations that cannot be obeyed, by model."""
        return dict(islice(self.warnings.items(), MAX_WARNINGS)) or None

    def _warnings(self) -> list[tuple[str, str]]:
        found = []
        for model, config in self._configs.items():
            unknown = unknown_strategies(config)
            if unknown:
                names = ", ".join(name[:64] for name in unknown[:8])
                found.append((model, f"no such strategy here: {names}; {self._default} is used for it"))
        return found
