"""The name that `least-kv-cache` had before engines renamed the gauge."""

from typing import ClassVar, Final

from aibrix_extproc.core.routing.kv_usage import KVUsage
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="least-gpu-cache",
    intent="The older name of `least-kv-cache`.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)


class LeastGPUCache(KVUsage):
    """Order the endpoints as `least-kv-cache` does: engines have one KV cache, and call it by that name now.

    Use it where clients or pods name it already. Limits: those of `least-kv-cache`.
    """

    name: ClassVar = SPEC.name
