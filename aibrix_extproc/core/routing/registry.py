"""The strategies by name. One more strategy is one more file and one more line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.routing.spec import Strategy
from aibrix_extproc.core.routing.strategies import (
    least_request,
    power_of_two,
    random,
    round_robin,
    session_affinity,
)

DEFAULT_STRATEGY: Final = least_request.SPEC.name

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {
        strategy.spec.name: strategy
        for strategy in (
            Strategy(least_request.SPEC, least_request.rank),
            Strategy(power_of_two.SPEC, power_of_two.rank),
            Strategy(random.SPEC, random.rank),
            Strategy(round_robin.SPEC, round_robin.rank),
            Strategy(session_affinity.SPEC, session_affinity.rank),
        )
    }
)

# Names that AIBrix knows and this registry does not -> what to name in their place; for answers and the reference page.
NOT_HERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "least-busy-time": "least-request",
        "least-gpu-cache": "least-request",
        "least-kv-cache": "least-request",
        "least-latency": "least-request",
        "least-utilization": "least-request",
        "load-balance": "least-request",
        "pd": "least-request",
        "prefix-cache": "session-affinity",
        "prefix-cache-preble": "session-affinity",
        "slo": "least-request",
        "slo-least-load": "least-request",
        "slo-least-load-pulling": "least-request",
        "slo-pack-load": "least-request",
        "throughput": "least-request",
        "vtc-basic": "least-request",
    }
)
