"""The KV cache of an engine with continuous batching: blocks that requests hold, and those that are kept for others.

Requests that share a prefix share its blocks. A block that nobody holds stays until its room is needed, least recently
held first, as in vLLM.
"""

from collections import OrderedDict
from collections.abc import Sequence


class PagedCache:
    """Blocks by id. `capacity`: blocks in all; `block_tokens`: tokens in one."""

    def __init__(self, capacity: int, block_tokens: int) -> None:
        self.capacity = capacity
        self.block_tokens = block_tokens
        self._holders: dict[int, int] = {}  # how many requests hold a block
        self._computed: set[int] = set()  # of those that are held
        self._kept: OrderedDict[int, None] = OrderedDict()  # computed, and held by nobody
        self._unnamed = 0  # blocks that are held and cannot be shared: unfinished ones, and answers

    @property
    def held(self) -> int:
        """Blocks that requests hold."""
        return len(self._holders) + self._unnamed

    def match(self, blocks: Sequence[int], prompt_tokens: int) -> int:
        """Tokens at the beginning of a prompt that are cached; at least one is left to compute, as in vLLM."""
        hits = 0
        for block in blocks:
            if block not in self._kept and block not in self._computed:
                break
            hits += 1
        return min(hits * self.block_tokens, prompt_tokens - 1)

    def has_room(self, blocks: Sequence[int], tokens: int) -> bool:
        """Whether a request with these blocks, and so many tokens in all, fits beside those that run."""
        named = sum(block not in self._holders for block in blocks)
        return self.held + named + self._unnamed_of(blocks, tokens) <= self.capacity

    def hold(self, blocks: Sequence[int], tokens: int) -> None:
        """A request begins; what is kept for nobody makes room for it."""
        for block in blocks:
            self._holders[block] = self._holders.get(block, 0) + 1
            if block in self._kept:
                del self._kept[block]
                self._computed.add(block)
        self._unnamed += self._unnamed_of(blocks, tokens)
        while self._kept and self.held + len(self._kept) > self.capacity:
            self._kept.popitem(last=False)

    def computed(self, blocks: Sequence[int]) -> None:
        """The blocks of a request that holds them are there."""
        self._computed.update(blocks)

    def release(self, blocks: Sequence[int], tokens: int) -> None:
        """A request ends; its later blocks are dropped before its first ones."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if not self._holders[block]:
                del self._holders[block]
                if block in self._computed:
                    self._computed.discard(block)
                    self._kept[block] = None
        self._unnamed -= self._unnamed_of(blocks, tokens)

    def _unnamed_of(self, blocks: Sequence[int], tokens: int) -> int:
        return -(-(tokens - len(blocks) * self.block_tokens) // self.block_tokens)
