"""Who runs and who waits: the arithmetic of vLLM's scheduler, without time.

Sequences are limited by `max_num_seqs`, memory by blocks, adapters by `max_loras`. A request that waits
for an adapter slot lets others pass it; one that waits for capacity does not.
"""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request needs."""

    sequences: int
    blocks: int
    adapter: str = ""


class Scheduler:
    """Waiting and running requests by key."""

    def __init__(self, max_num_seqs: int, total_blocks: int, max_loras: int) -> None:
        self.max_num_seqs = max_num_seqs
        self.total_blocks = total_blocks
        self.max_loras = max_loras
        self.frozen = False
        """While paused or asleep nobody is admitted."""
        self.waiting: OrderedDict[Hashable, Claim] = OrderedDict()
        self.running: dict[Hashable, Claim] = {}
        self.running_sequences = 0
        self.held_blocks = 0

    def offer(self, key: Hashable, claim: Claim) -> None:
        """Put a request at the end of the queue."""
        self.waiting[key] = claim

    def admit(self) -> list[Hashable]:
        """Move all that fit from waiting to running; returns their keys in order."""
        admitted: list[Hashable] = []
        if self.frozen or not self.waiting:
            return admitted
        adapters = self.running_adapters()
        for key, claim in list(self.waiting.items()):
            if not self._has_room(claim):
                break
            if claim.adapter and claim.adapter not in adapters and len(adapters) >= self.max_loras:
                continue
            if claim.adapter:
                adapters.add(claim.adapter)
            del self.waiting[key]
            self.running[key] = claim
            self.running_sequences += claim.sequences
            self.held_blocks += claim.blocks
            admitted.append(key)
        return admitted

    def remove(self, key: Hashable) -> None:
        """Take a request out, wherever it is; unknown keys are fine."""
        if self.waiting.pop(key, None) is not None:
            return
        claim = self.running.pop(key, None)
        if claim is not None:
            self.running_sequences -= claim.sequences
            self.held_blocks -= claim.blocks

    def running_adapters(self) -> set[str]:
        """Adapters of running requests."""
        return {claim.adapter for claim in self.running.values() if claim.adapter}

    def waiting_adapters(self) -> set[str]:
        """Adapters of waiting requests."""
        return {claim.adapter for claim in self.waiting.values() if claim.adapter}

    def deferred(self) -> int:
        """Waiting requests that wait for an adapter slot rather than for capacity."""
        adapters = self.running_adapters()
        if len(adapters) < self.max_loras:
            return 0
        return sum(1 for claim in self.waiting.values() if claim.adapter and claim.adapter not in adapters)

    @property
    def cache_usage(self) -> float:
        """Held part of the blocks, 0 to 1."""
        return min(1.0, self.held_blocks / self.total_blocks)

    def _has_room(self, claim: Claim) -> bool:
        if not self.running:
            # Alone, a request runs however large it is: else it would wait for ever.
            return True
        return (
            self.running_sequences + claim.sequences <= self.max_num_seqs
            and self.held_blocks + claim.blocks <= self.total_blocks
        )
