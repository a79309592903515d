"""Which blocks of our prompts an engine has, by its own cache events and without a tokenizer.

Each request carries its id as the session of the engine's cache events. The event that stores blocks names that
session, so it is known which prompt they are of; where a block ends in the prompt follows from its depth and the length
of tokens. A block that other prompts share makes no further event, and need not: in the index they share it, too. When
the engine removes a block, the index drops what ends in it.
"""

from bisect import bisect_right
from collections import OrderedDict
from typing import Final

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.routing.prefix.events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    CacheEvent,
)
from aibrix_extproc.core.routing.prefix.index import PrefixIndex

MAX_SESSIONS: Final = 4096  # requests of which events may still come
MAX_BLOCKS: Final = 32_768  # of an engine that are followed; the oldest are forgotten first


class Residency:
    """Follows one engine. `identity`: its endpoint in the index."""

    def __init__(self, index: PrefixIndex, identity: str) -> None:
        self._index = index
        self._identity = identity
        self._sessions: OrderedDict[str, tuple[PrefixChain, float]] = OrderedDict()
        self._depths: dict[BlockHash, int] = {}  # of the engine's blocks
        self._ours: dict[BlockHash, tuple[int, ...]] = {}  # blocks of our chains that one of the engine's has a part of

    def __len__(self) -> int:
        """Blocks of the engine that are followed."""
        return len(self._depths)

    def placed(self, session: str, chain: PrefixChain, bytes_per_token: float) -> None:
        """A request goes to the engine."""
        self._sessions[session] = chain, bytes_per_token
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)

    def take(self, event: CacheEvent) -> None:
        """Follow an event of the engine, in their order."""
        match event:
            case BlockStored():
                self._stored(event)
            case BlockRemoved(block_hashes=hashes):
                for block in hashes:
                    self._depths.pop(block, None)
                    for ours in self._ours.pop(block, ()):
                        self._index.removed(self._identity, ours)
            case AllBlocksCleared():
                self.lost()

    def lost(self) -> None:
        """What the engine has is not known any more, or nothing: events were missed, or its cache was cleared."""
        self._depths.clear()
        self._ours.clear()
        self._index.clear(self._identity)

    def _stored(self, event: BlockStored) -> None:
        depth = 0
        if event.parent_block_hash is not None:
            depth = self._depths.get(event.parent_block_hash, -1)
            if depth < 0:
                return  # of a prompt whose beginning was not seen
        chain, bytes_per_token = self._sessions.get(event.session_id or "", (None, 0.0))
        size = event.block_size * bytes_per_token
        for block in event.block_hashes:
            depth += 1
            self._depths[block] = depth
            if chain is None or size <= 0.0:
                continue
            start, end = (depth - 1) * size, depth * size
            first, complete = bisect_right(chain.ends, start), bisect_right(chain.ends, end)
            self._ours[block] = chain.hashes[first : complete + 1]  # the last of them goes on behind this block
            for index in range(first, complete):
                before = chain.ends[index - 1] if index else 0
                self._index.stored(self._identity, chain.hashes[index], chain.ends[index] - before)
        while len(self._depths) > MAX_BLOCKS:
            oldest = next(iter(self._depths))
            del self._depths[oldest]
            self._ours.pop(oldest, None)
