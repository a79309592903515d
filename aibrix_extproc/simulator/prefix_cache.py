"""The prefix cache: which blocks of a prompt the engine has computed before, least recently used out first.

Works on bytes rather than on token ids (a block of 16 tokens is 64 bytes), which costs a hundredth.
A text's blocks are named by a chain of hashes: each stands for its block and for all before it.
"""

from collections import OrderedDict

from aibrix_extproc.simulator.tokenizer import TOKEN_BYTES


class PrefixCache:
    """A bounded set of chained block hashes."""

    def __init__(self, block_size: int, capacity: int) -> None:
        self.block_size = block_size
        self.capacity = capacity
        self.block_bytes = block_size * TOKEN_BYTES
        self._blocks: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._blocks)

    def chain(self, root: str, data: bytes) -> list[int]:
        """Name the full blocks of a text; the root separates adapters and salts."""
        return self.extend(hash(root), data)

    def extend(self, parent: int, data: bytes) -> list[int]:
        """Name the full blocks of a text that follows the block called `parent`."""
        size = self.block_bytes
        chain = []
        for start in range(0, len(data) - size + 1, size):
            parent = hash((parent, data[start : start + size]))
            chain.append(parent)
        return chain

    def match(self, chain: list[int], length: int) -> int:
        """Tokens at the beginning of a text of `length` bytes that are cached; finding them makes them recent.

        At least one token is always left to compute, as in vLLM: the last token yields the first logits.
        """
        hits = 0
        for block in chain[: max(0, length - 1) // self.block_bytes]:
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            hits += 1
        return hits * self.block_size

    def insert(self, chain: list[int]) -> None:
        """Remember blocks, the later ones as less recent: a prefix must outlive what hangs on it."""
        for block in reversed(chain[: self.capacity]):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self.capacity:
            self._blocks.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
