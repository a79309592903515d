"""The strategies by name. One more strategy is one more file and one more line here."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from aibrix_extproc.core.routing.scorer import Scorer, Strategy
from aibrix_extproc.core.routing.scorers import (
    balanced,
    least_busy_time,
    least_gpu_cache,
    least_kv_cache,
    least_latency,
    least_request,
    least_utilization,
    load_balance,
    lora_affinity,
    pd,
    power_of_two,
    predicted,
    prefix_cache,
    random,
    round_robin,
    session_affinity,
    throughput,
    vtc_basic,
)
from aibrix_extproc.core.routing.signals import SignalSources

DEFAULT_STRATEGY: Final = predicted.SPEC.name

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType(
    {
        strategy.spec.name: strategy
        for strategy in (
            Strategy(balanced.SPEC, balanced.Balanced),
            Strategy(least_busy_time.SPEC, least_busy_time.LeastBusyTime),
            Strategy(least_gpu_cache.SPEC, least_gpu_cache.LeastGPUCache),
            Strategy(least_kv_cache.SPEC, least_kv_cache.LeastKVCache),
            Strategy(least_latency.SPEC, least_latency.LeastLatency),
            Strategy(least_request.SPEC, least_request.LeastRequest),
            Strategy(least_utilization.SPEC, least_utilization.LeastUtilization),
            Strategy(load_balance.SPEC, load_balance.LoadBalance),
            Strategy(lora_affinity.SPEC, lora_affinity.LoraAffinity),
            Strategy(pd.SPEC, pd.PD),
            Strategy(power_of_two.SPEC, power_of_two.PowerOfTwo),
            Strategy(predicted.SPEC, predicted.Predicted),
            Strategy(prefix_cache.SPEC, prefix_cache.PrefixCache),
            Strategy(random.SPEC, random.Random),
            Strategy(round_robin.SPEC, round_robin.RoundRobin),
            Strategy(session_affinity.SPEC, session_affinity.SessionAffinity),
            Strategy(throughput.SPEC, throughput.Throughput),
            Strategy(vtc_basic.SPEC, vtc_basic.VtcBasic),
        )
    }
)

# Names that AIBrix knows and this registry does not -> what to name in their place; for answers and the reference page.
NOT_HERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "prefix-cache-preble": "predicted",
        "slo": "predicted",
        "slo-least-load": "predicted",
        "slo-least-load-pulling": "predicted",
        "slo-pack-load": "predicted",
    }
)


class Scorers:
    """The scorers of one process, each made when it is first asked for and kept with its memory."""

    def __init__(self, sources: SignalSources) -> None:
        self._sources = sources
        self._made: dict[str, Scorer] = {}

    def get(self, name: str) -> Scorer:
        """The scorer of a strategy of the registry; its signals are produced from now on."""
        made = self._made.get(name)
        if made is None:
            strategy = STRATEGIES[name]
            self._sources.require(strategy.spec.needs)
            made = self._made[name] = strategy.make()
        return made
