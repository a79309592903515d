"""Takes a content from a client into the blob store, counted, hashed and bounded on the way."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from aibrix_extproc.adapters.blobs.store import BlobError, BlobsFullError, BlobStore
from aibrix_extproc.adapters.openai_http.call import refuse

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A content that is stored."""

    blob: str
    size: int  # bytes
    sha256: str  # hexadecimal


class Receiver:
    """Stores contents. What is not committed by a row afterwards must be given back with `discard`."""

    def __init__(self, blobs: BlobStore, new_key: Callable[[str], str]) -> None:
        """`new_key` makes a key below a prefix that nobody has used."""
        self._blobs = blobs
        self._new_key = new_key

    async def receive(self, prefix: str, content: AsyncIterator[bytes], most: int) -> Received:
        """Store a content of at most `most` bytes. Raises RefusedError."""
        bounded = _Bounded(content, most)
        key = self._new_key(prefix)
        try:
            sha256 = await self._blobs.put(key, bounded.pieces())
        except BlobsFullError as error:
            raise refuse("insufficient_storage") from error
        except BlobError as error:
            raise refuse("storage_unavailable") from error
        return Received(key, bounded.size, sha256)

    async def discard(self, received: Received | None) -> None:
        """Remove a content that did not become an object. What fails here is left to the sweep."""
        if received is not None:
            await remove_quietly(self._blobs, [received.blob])


class _Bounded:
    """Passes a content on, its bytes counted."""

    def __init__(self, content: AsyncIterator[bytes], most: int) -> None:
        self._content = content
        self._most = most
        self.size = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in self._content:
            self.size += len(piece)
            if self.size > self._most:
                raise refuse("file_too_large", limit=str(self._most))
            yield piece


async def remove_quietly(blobs: BlobStore, keys: Iterable[str]) -> None:
    """Remove blobs that nothing refers to. One that cannot be removed now is an orphan, which the sweep finds."""
    try:
        await blobs.delete(keys)
    except BlobError as error:
        logger.warning("blob was not removed, the sweep will try again", extra={"error": str(error)})
