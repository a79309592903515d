"""Reads contents that consist of segments."""

from collections.abc import AsyncIterator, Sequence

from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.openai_http.call import ContentError
from aibrix_extproc.core.files.records import Segment


async def segments_between(blobs: BlobStore, segments: Sequence[Segment], start: int, end: int) -> AsyncIterator[bytes]:
    """The bytes of a segmented content from `start` up to and without `end`. Raises ContentError."""
    position = 0
    for segment in segments:
        first, last = max(start - position, 0), min(end - position, segment.size)
        if first < last:
            try:
                async for piece in blobs.stream(segment.blob, first, last):
                    yield piece
            except BlobError as error:
                raise ContentError(str(error)) from error
        position += segment.size
        if position >= end:
            return
