"""The endpoint that uses the least of its KV cache."""

from typing import ClassVar, Final

from aibrix_extproc.core.routing.kv_usage import KVUsage
from aibrix_extproc.core.routing.scorer import ScorerSpec
from aibrix_extproc.core.routing.signals import Need

SPEC: Final = ScorerSpec(
    name="least-kv-cache",
    intent="Send each request to the endpoint that uses the least of its KV cache.",
    needs=frozenset({Need.GAUGES, Need.LOAD, Need.TICK}),
)


class LeastKVCache(KVUsage):
    """Order the endpoints by the part of their KV cache that is in use, lowest first; equal ones take turns.

    The usage is the engine's last reading, plus a share for each request that we have sent since. Use it where memory
    is what runs out: long contexts, many requests at once. Limits: an idle engine with a full prefix cache counts as
    empty, as engines report it; it sees no queue and no speed. A stale reading fades towards our own counts. In a
    combination the lowest usage scores 1, the highest 0.
    """

    name: ClassVar = SPEC.name
