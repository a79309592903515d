"""Who runs and who waits: the arithmetic of vLLM's scheduler, without time.

Sequences are limited by `max_num_seqs`, memory by blocks, adapters by `max_loras`. A request that waits
for an adapter slot lets others pass it; one that waits for capacity does not.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one request needs."""

    sequences: int
    blocks: int
    adapter: str = ""
    priority: int = 0  # lower ones go first


class Scheduler:
    """Waiting and running requests by key."""

    def __init__(self, max_num_seqs: int, total_blocks: int, max_loras: int) -> None:
        self.max_num_seqs = max_num_seqs
        self.total_blocks = total_blocks
        self.max_loras = max_loras
        self.frozen = False
        """While paused or asleep no request is admitted."""
        self.waiting: OrderedDict[Hashable, Claim] = OrderedDict()
        self.running: dict[Hashable, Claim] = {}
        self.running_sequences = 0
        self.held_blocks = 0
        self._prioritised = False  # whether any request ever had a priority
        # Counted as requests begin and end: thousands may run, and each end reads these.
        self._running_adapters: Counter[str] = Counter()
        self._waiting_adapters: Counter[str] = Counter()

    def offer(self, key: Hashable, claim: Claim) -> None:
        """Put a request at the end of the queue."""
        self.waiting[key] = claim
        self._prioritised = self._prioritised or claim.priority != 0
        _add(self._waiting_adapters, claim.adapter)

    def admit(self) -> list[Hashable]:
        """Move all that fit from waiting to running; returns their keys in order."""
        admitted: list[Hashable] = []
        if self.frozen:
            return admitted
        for key, claim in self._in_order():
            if not self._has_room(claim):
                break
            if self._lacks_slot(claim):
                continue
            self.running[key] = claim
            self.running_sequences += claim.sequences
            self.held_blocks += claim.blocks
            _add(self._running_adapters, claim.adapter)
            admitted.append(key)
        for key in admitted:
            _take(self._waiting_adapters, self.waiting.pop(key).adapter)
        return admitted

    def _in_order(self) -> Iterable[tuple[Hashable, Claim]]:
        waiting = self.waiting.items()
        return sorted(waiting, key=lambda one: one[1].priority) if self._prioritised else waiting

    def remove(self, key: Hashable) -> None:
        """Take a request out, wherever it is; unknown keys are fine."""
        claim = self.waiting.pop(key, None)
        if claim is not None:
            _take(self._waiting_adapters, claim.adapter)
            return
        claim = self.running.pop(key, None)
        if claim is not None:
            self.running_sequences -= claim.sequences
            self.held_blocks -= claim.blocks
            _take(self._running_adapters, claim.adapter)

    def running_adapters(self) -> set[str]:
        """Adapters of running requests."""
        return set(self._running_adapters)

    def waiting_adapters(self) -> set[str]:
        """Adapters of waiting requests."""
        return set(self._waiting_adapters)

    def deferred(self) -> int:
        """Waiting requests that wait for an adapter slot rather than for capacity."""
        return sum(1 for claim in self.waiting.values() if self._lacks_slot(claim))

    @property
    def cache_usage(self) -> float:
        """The part of the blocks that is in use, 0 to 1."""
        return min(1.0, self.held_blocks / self.total_blocks)

    def _lacks_slot(self, claim: Claim) -> bool:
        running = self._running_adapters
        return bool(claim.adapter) and claim.adapter not in running and len(running) >= self.max_loras

    def _has_room(self, claim: Claim) -> bool:
        if not self.running:
            # Alone, a request runs however large it is: else it would wait for ever.
            return True
        return (
            self.running_sequences + claim.sequences <= self.max_num_seqs
            and self.held_blocks + claim.blocks <= self.total_blocks
        )


def _add(adapters: Counter[str], adapter: str) -> None:
    if adapter:
        adapters[adapter] += 1


def _take(adapters: Counter[str], adapter: str) -> None:
    if adapter:
        adapters[adapter] -= 1
        if not adapters[adapter]:
            del adapters[adapter]
