"""The strategies by name. One more strategy is one more file and one more line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.routing.spec import Strategy
from aibrix_extproc.core.routing.strategies import least_request, random, round_robin

DEFAULT_STRATEGY: Final = least_request.SPEC.name

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {
        strategy.spec.name: strategy
        for strategy in (
            Strategy(least_request.SPEC, least_request.rank),
            Strategy(random.SPEC, random.rank),
            Strategy(round_robin.SPEC, round_robin.rank),
        )
    }
)
