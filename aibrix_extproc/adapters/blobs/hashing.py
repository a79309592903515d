"""Hashes a content on its way into object storage."""

import asyncio
import hashlib
from collections.abc import AsyncIterator


class Hashed:
    """Passes a content on. A worker thread hashes a piece while the store takes it and the next one comes."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self._digest = hashlib.sha256()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The content as it comes."""
        hashing: asyncio.Future[None] | None = None
        async for piece in self._content:
            if hashing is not None:
                await hashing
            hashing = asyncio.get_running_loop().run_in_executor(None, self._digest.update, piece)
            yield piece
        if hashing is not None:
            await hashing

    def sha256(self) -> str:
        """In hexadecimal, when all has passed."""
        return self._digest.hexdigest()
