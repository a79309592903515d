"""The prefix cache of an engine model: full blocks by id, least recently used out first."""

from collections import OrderedDict
from collections.abc import Sequence


class BlockCache:
    """A bounded set of block ids. `capacity`: blocks; `block_tokens`: tokens in one."""

    def __init__(self, capacity: int, block_tokens: int) -> None:
        self.capacity = capacity
        self.block_tokens = block_tokens
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def match(self, blocks: Sequence[int], prompt_tokens: int) -> int:
        """Tokens at the beginning of a prompt that are cached; at least one is left to compute, as in vLLM."""
        hits = 0
        for block in blocks:
            if block not in self._blocks:
                break
            hits += 1
        return min(hits * self.block_tokens, prompt_tokens - 1)

    def insert(self, blocks: Sequence[int]) -> None:
        """Remember a prompt; its later blocks are dropped before its first ones."""
        known = self._blocks
        for block in reversed(blocks[: self.capacity]):
            known[block] = None
            known.move_to_end(block)
        while len(known) > self.capacity:
            known.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
