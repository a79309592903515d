"""Decodes the cache events of vLLM: one message of its ZMQ socket has the events of one step of the engine.

An event is a map with a `type`, or an array that begins with it, as older engines write. Tokens are skipped unread, and
so is every event of a type that is not known.
"""

from typing import Final

import msgspec

MAX_EVENTS: Final = 10_000  # of one message
_GPU: Final = ("GPU", "gpu", None)

BlockHash = int | bytes


class BlockStored(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="BlockStored", kw_only=True):
    """Blocks are in the cache now; each follows the one before, the first of them the parent."""

    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None = None
    block_size: int = 0  # tokens
    medium: str | None = None
    group_idx: int | None = None
    session_id: str | None = None  # of the request that stored them first


class BlockRemoved(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="BlockRemoved", kw_only=True):
    """Blocks are not in the cache any more."""

    block_hashes: list[BlockHash]
    medium: str | None = None
    group_idx: int | None = None


class AllBlocksCleared(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="AllBlocksCleared", kw_only=True):
    """The cache is empty."""


CacheEvent = BlockStored | BlockRemoved | AllBlocksCleared


class _StoredRow(msgspec.Struct, frozen=True, gc=False, tag="BlockStored", array_like=True):
    block_hashes: list[BlockHash]
    parent_block_hash: BlockHash | None
    token_ids: msgspec.Raw
    block_size: int
    lora_id: msgspec.Raw = msgspec.Raw()
    medium: str | None = None


class _RemovedRow(msgspec.Struct, frozen=True, gc=False, tag="BlockRemoved", array_like=True):
    block_hashes: list[BlockHash]
    medium: str | None = None


class _ClearedRow(msgspec.Struct, frozen=True, gc=False, tag="AllBlocksCleared", array_like=True):
    pass


class _Batch(msgspec.Struct, frozen=True, gc=False, array_like=True):
    at: float
    events: list[msgspec.Raw]


_BATCH: Final = msgspec.msgpack.Decoder(_Batch)
_MAP: Final[msgspec.msgpack.Decoder[CacheEvent]] = msgspec.msgpack.Decoder(CacheEvent)
_ROW: Final = msgspec.msgpack.Decoder(_StoredRow | _RemovedRow | _ClearedRow)


class UnreadableEvents(ValueError):
    """A message that is no batch of events, or a known event that cannot be read: the cache is unknown from here on."""


def read_events(message: bytes) -> list[CacheEvent]:
    """The events of a message that say something of the GPU's cache. Raises UnreadableEvents, and nothing else."""
    try:
        batch = _BATCH.decode(message)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnreadableEvents("no batch of events") from error
    if len(batch.events) > MAX_EVENTS:
        raise UnreadableEvents(f"over {MAX_EVENTS} events in a message")
    events = [_event(raw) for raw in batch.events]
    return [one for one in events if one is not None and _counts(one)]


def _event(raw: msgspec.Raw) -> CacheEvent | None:
    first = memoryview(raw)[0]  # msgpack's own mark of what follows
    try:
        is_map = 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)
        return _MAP.decode(raw) if is_map else _of_row(_ROW.decode(raw))
    except msgspec.ValidationError as error:
        if "Invalid value" in str(error) and ("$.type" in str(error) or "$[0]" in str(error)):
            return None  # a type that is not known
        raise UnreadableEvents(f"an event that cannot be read: {error}"[:200]) from error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise UnreadableEvents("an event that cannot be read") from error


def _of_row(row: _StoredRow | _RemovedRow | _ClearedRow) -> CacheEvent:
    match row:
        case _StoredRow(block_hashes=hashes, parent_block_hash=parent, block_size=size, medium=medium):
            return BlockStored(block_hashes=hashes, parent_block_hash=parent, block_size=size, medium=medium)
        case _RemovedRow(block_hashes=hashes, medium=medium):
            return BlockRemoved(block_hashes=hashes, medium=medium)
        case _ClearedRow():
            return AllBlocksCleared()


def _counts(event: CacheEvent) -> bool:
    """Whether it is about the GPU's cache, and of a model with several caches the first."""
    return isinstance(event, AllBlocksCleared) or (event.medium in _GPU and event.group_idx in (0, None))
