"""Reads contents that consist of segments."""

from collections.abc import AsyncIterator, Sequence

from aibrix_extproc.adapters.blobs.store import BlobError, BlobMissingError, BlobStore
from aibrix_extproc.adapters.openai_http.call import ContentError
from aibrix_extproc.core.files.records import Segment


class LostContentError(ContentError):
    """A blob that a content consists of is not there any more."""


async def begun(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same content with its first piece read, so that an answer does not begin with what cannot be read."""
    first = await anext(content, b"")

    async def whole() -> AsyncIterator[bytes]:
        if first:
            yield first
        async for piece in content:
            yield piece

    return whole()


async def segments_between(blobs: BlobStore, segments: Sequence[Segment], start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a segmented content from `start` up to and without `end`. Raises ContentError."""
    position = 0
    for segment in segments:
        first, last = max(start - position, 0), min(end - position, segment.size)
        if first < last:
            try:
                async for piece in blobs.stream(segment.blob, first, last):
                    yield piece
            except BlobMissingError as error:
                raise LostContentError(str(error)) from error
            except BlobError as error:
                raise ContentError(str(error)) from error
        position += segment.size
        if position >= end:
            return
