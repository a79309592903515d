"""Which endpoints probably have the blocks of a prompt in their prefix caches.

A block is the hash of a chain (`core/openai/wire/prefix.py`). For each block there is one integer whose bits are
endpoints, so a prompt is looked up at all endpoints at once: one dictionary read and one AND for each block. For each
endpoint there is the order in which its blocks were used, as engines evict the least recently used ones.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from aibrix_extproc.core.openai.wire.prefix import PrefixChain

_FEW: Final = 16  # bits that are found one by one
DEFAULT_CACHE_BYTES: Final = 1_000_000.0  # of text that an engine keeps, until it reports the size of its cache
MAX_BLOCKS: Final = 160_000  # of all endpoints together, about 340 bytes each
_FULL: Final = 0.95


class Change(NamedTuple):
    """The change that a prompt has made to an endpoint's blocks, so that it can be taken back."""

    added: tuple[int, ...]
    evicted: tuple[tuple[int, int], ...]  # with their bytes, oldest first


class PrefixIndex:
    """One for all models of a process: the model is in the first hash of a chain."""

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        self._max_blocks = max_blocks
        self._blocks = 0
        self._bits: dict[int, int] = {}  # block -> the endpoints that have it
        self._slots: dict[str, int] = {}  # identity -> its bit
        self._kept: dict[str, OrderedDict[int, int]] = {}  # identity -> its blocks with their bytes, oldest first
        self._kept_bytes: dict[str, int] = {}
        self._cache_bytes: dict[str, float] = {}
        self._free: list[int] = []  # bits of endpoints that are gone
        self._last: tuple[PrefixChain, Cached] | None = None  # a chain is looked up twice: to choose, and to count

    def __len__(self) -> int:
        """Blocks of all endpoints together."""
        return self._blocks

    @property
    def slots(self) -> int:
        """All bits are below this one."""
        return len(self._slots) + len(self._free)

    def blocks(self, identity: str) -> int:
        """Blocks that an endpoint is believed to have."""
        return len(self._kept.get(identity, ()))

    def slot(self, identity: str) -> int:
        """The bit of an endpoint; it keeps it until it is forgotten."""
        slot = self._slots.get(identity)
        if slot is None:
            slot = self._slots[identity] = self._free.pop() if self._free else len(self._slots)
        return slot

    def cached(self, chain: PrefixChain) -> "Cached":
        """How much of a prompt each endpoint has."""
        if self._last is not None and self._last[0] is chain:
            return self._last[1]
        found = Cached(self._slots, self._steps(chain))
        self._last = chain, found
        return found

    def _steps(self, chain: PrefixChain) -> list[tuple[int, int]]:
        bits = self._bits
        steps: list[tuple[int, int]] = []
        having, end = -1, 0
        for block, upto in zip(chain.hashes, chain.ends, strict=True):
            these = bits.get(block, 0) & having
            if these != having:
                if end:
                    steps.append((having & ~these, end))
                if not these:
                    break
                having = these
            end = upto
        else:
            if end:
                steps.append((having, end))
        return steps

    def placed(self, identity: str, chain: PrefixChain) -> Change | None:
        """The endpoint gets this prompt: it will have its blocks, and has used those that it had.

        Returns what has changed, None if it had all of them.
        """
        kept = self._kept.get(identity)
        if kept is None:
            kept = self._add(identity)
        bit, bits, grown = 1 << self._slots[identity], self._bits, 0
        added: list[int] = []
        # The last block is the first to be evicted, as in vLLM, which frees the blocks of a request from its end.
        ends = (0, *chain.ends)
        for index in range(len(chain.hashes) - 1, -1, -1):
            block = chain.hashes[index]
            if block in kept:
                kept.move_to_end(block)
            else:
                size = kept[block] = ends[index + 1] - ends[index]
                added.append(block)
                grown += size
                bits[block] = bits.get(block, 0) | bit
        self._last = None
        if not added:
            return None
        self._blocks += len(added)
        self._kept_bytes[identity] += grown
        return Change(tuple(added), tuple(self._shrink(identity)))

    def take_back(self, identity: str, change: Change) -> None:
        """The endpoint has not computed the prompt that changed this, and will not."""
        kept = self._kept.get(identity)
        taken = [block for block in change.added if kept and block in kept]
        if not kept or not taken:
            return  # it was cleared meanwhile, or has evicted them
        for block in taken:
            self._drop(identity, block, kept.pop(block))
        for block, size in reversed(change.evicted):
            if block not in kept and block not in change.added:
                if self._kept_bytes[identity] + size > self.cache_bytes(identity):
                    return
                self._keep(identity, kept, block, size)
                kept.move_to_end(block, last=False)

    def stored(self, identity: str, block: int, size: int) -> None:
        """The endpoint says that it has this block now."""
        kept = self._kept.get(identity)
        if kept is None:
            kept = self._add(identity)
        if block not in kept:
            self._keep(identity, kept, block, size)
            self._shrink(identity)

    def removed(self, identity: str, block: int) -> None:
        """The endpoint does not have this block any more."""
        kept = self._kept.get(identity)
        if kept is not None and block in kept:
            self._drop(identity, block, kept.pop(block))

    def limit(self, identity: str, cache_bytes: float) -> None:
        """Set how many bytes of text the cache of an endpoint holds."""
        self._cache_bytes[identity] = cache_bytes
        if identity in self._kept:
            self._shrink(identity)

    def cache_bytes(self, identity: str) -> float:
        """How many bytes of text the cache of an endpoint is believed to hold."""
        return self._cache_bytes.get(identity, DEFAULT_CACHE_BYTES)

    def is_full(self, identity: str) -> bool:
        """Whether another prompt would have its endpoint drop others."""
        return self._kept_bytes.get(identity, 0) > _FULL * self.cache_bytes(identity)

    def clear(self, identity: str) -> None:
        """The endpoint has lost its cache."""
        kept = self._kept.get(identity)
        while kept:
            self._drop(identity, *kept.popitem())

    def forget(self, identity: str) -> None:
        """The endpoint is gone."""
        self.clear(identity)
        for book in (self._cache_bytes, self._kept, self._kept_bytes):
            book.pop(identity, None)
        if identity in self._slots:
            self._free.append(self._slots.pop(identity))

    def _add(self, identity: str) -> OrderedDict[int, int]:
        self.slot(identity)
        self._kept_bytes[identity] = 0
        kept = self._kept[identity] = OrderedDict()
        return kept

    def _keep(self, identity: str, kept: OrderedDict[int, int], block: int, size: int) -> None:
        kept[block] = size
        self._last = None
        self._blocks += 1
        self._kept_bytes[identity] += size
        self._bits[block] = self._bits.get(block, 0) | 1 << self._slots[identity]

    def _shrink(self, identity: str) -> list[tuple[int, int]]:
        """Evict what is too much. Returns the blocks that this endpoint's own size has cost it."""
        kept, most = self._kept[identity], self.cache_bytes(identity)
        evicted: list[tuple[int, int]] = []
        while self._kept_bytes[identity] > most:
            block, size = kept.popitem(last=False)
            evicted.append((block, size))
            self._drop(identity, block, size)
        if self._blocks > self._max_blocks:
            share = self._max_blocks // len(self._kept)
            for other, blocks in self._kept.items():
                while len(blocks) > share:
                    self._drop(other, *blocks.popitem(last=False))
        return evicted

    def _drop(self, identity: str, block: int, size: int) -> None:
        self._last = None
        self._blocks -= 1
        self._kept_bytes[identity] -= size
        left = self._bits[block] & ~(1 << self._slots[identity])
        if left:
            self._bits[block] = left
        else:
            del self._bits[block]


class Cached:
    """How many bytes of one prompt each endpoint has in its cache, at the moment it was made."""

    __slots__ = ("_by_slot", "_slots", "steps")

    def __init__(self, slots: dict[str, int], steps: list[tuple[int, int]]) -> None:
        self._slots = slots
        self._by_slot: list[int] = []
        self.steps = steps  # sets of endpoints, as bits, with the bytes that each of the set has; no two overlap

    def of(self, identity: str) -> int:
        """Bytes of the prompt that this endpoint has."""
        slot = self._slots.get(identity, -1)
        if slot < 0:
            return 0
        return next((end for having, end in self.steps if having >> slot & 1), 0)

    def by_slot(self, slots: int) -> list[int] | None:
        """Bytes by the slots of endpoints, at least those below `slots`; None if no endpoint has any."""
        if not self.steps:
            return None
        if len(self._by_slot) >= slots:
            return self._by_slot
        found = self._by_slot = [0] * slots
        for having, end in self.steps:
            if having.bit_count() <= _FEW:
                while having:
                    found[having.bit_length() - 1] = end
                    having ^= 1 << having.bit_length() - 1
            else:
                for slot, bit in enumerate(bin(having)[:1:-1]):
                    if bit == "1":
                        found[slot] = end
        return found
