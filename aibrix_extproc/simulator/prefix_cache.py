"""The prefix cache: which blocks of a prompt the engine has computed before, least recently used out first.

Works on bytes rather than on token ids (a block of 16 tokens is 64 bytes), which costs a hundredth.
"""

from collections import OrderedDict

from aibrix_extproc.simulator.tokenizer import TOKEN_BYTES


class PrefixCache:
    """A bounded set of chained block hashes."""

    def __init__(self, block_size: int, capacity: int) -> None:
        self.block_size = block_size
        self.capacity = capacity
        self._block_bytes = block_size * TOKEN_BYTES
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def match(self, root: str, data: bytes) -> int:
        """Tokens at the beginning of `data` that are cached; touching them makes them recent.

        At least one token is always left to compute, as in vLLM: the last token yields the first logits.
        """
        hits = 0
        usable = max(0, len(data) - 1)
        for block in self._chain(root, data[: usable - usable % self._block_bytes]):
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            hits += 1
        return hits * self.block_size

    def insert(self, root: str, data: bytes) -> None:
        """Remember every full block of `data`."""
        for block in self._chain(root, data):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self.capacity:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()

    def _chain(self, root: str, data: bytes) -> list[int]:
        """Hash each full block together with all before it; the root separates adapters and salts."""
        size = self._block_bytes
        parent = hash(root)
        chain = []
        for start in range(0, len(data) - size + 1, size):
            parent = hash((parent, data[start : start + size]))
            chain.append(parent)
        return chain
