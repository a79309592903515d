"""Blobs: bytes under a key, written once, streamed in and out in constant memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from aibrix_extproc.adapters.blobs.hashing import Hashed
from aibrix_extproc.adapters.blobs.local import write_bytes, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES: Final = 8 * 1024 * 1024  # of a multipart upload to object storage; at most two of a blob are in memory
_IN_FLIGHT: Final = 2
_READ_BYTES: Final = 256 * 1024
_NO_SPACE: Final = (
    "no space left",
    "os error 28",
    "disk quota exceeded",
    "os error 122",
    "file too large",
    "os error 27",
)
_RETRY: Final[Any] = {
    "max_retries": 4, "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}  # fmt: skip
# Options given here hide AWS_ALLOW_HTTP. Who names an endpoint without TLS means it.
_CLIENT: Final[Any] = {
    "connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60), "allow_http": True,
}  # fmt: skip
SCHEMES: Final = ("file", "s3", "gs", "az")


class BlobError(Exception):
    """The store failed or cannot be reached; the message is for operators."""


class BlobMissingError(BlobError):
    """There is no blob under the key."""


class BlobsFullError(BlobError):
    """The store has no room left."""


class BlobStore:
    """One bucket, or one folder. A blob appears whole or not at all."""

    def __init__(self, url: str) -> None:
        """`url` is file:///FOLDER, s3://BUCKET/PREFIX, gs://... or az://...; credentials come from the environment."""
        scheme, _, rest = url.partition("://")
        if scheme not in SCHEMES or not rest:
            raise BlobError(f"the blob store {url!r} is not one of {', '.join(f'{one}://' for one in SCHEMES)}")
        self.shown = url
        self._folder = Path(rest).absolute() if scheme == "file" else None
        self._store: Any
        with _told():
            if self._folder is not None:
                self._store = LocalStore(prefix=self._folder, mkdir=True)
            else:
                self._store = from_url(url, client_options=_CLIENT, retry_config=_RETRY)

    async def put(self, key: str, content: AsyncIterator[bytes]) -> str:
        """Store a content; returns its SHA-256 in hexadecimal.

        An exception of the iterator's passes, and leaves nothing behind.
        """
        source = _Source(content)
        try:
            with _told():
                if self._folder is not None:
                    return await write_file(self._folder / key, source)
                hashed = Hashed(source)
                await obstore.put_async(
                    self._store,
                    key,
                    hashed.pieces(),
                    use_multipart=True,
                    chunk_size=CHUNK_BYTES,
                    max_concurrency=_IN_FLIGHT,
                )
                return hashed.sha256()
        except BlobError:
            if source.error is not None:
                raise source.error from None
            raise

    async def put_bytes(self, key: str, content: bytes) -> None:
        """Store a content that is in memory."""
        with _told():
            if self._folder is not None:
                await asyncio.to_thread(write_bytes, self._folder / key, content)
            else:
                await obstore.put_async(self._store, key, content, use_multipart=False)

    async def stream(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to and without `end`, in pieces. Raises BlobMissingError."""
        if start >= end:
            return
        with _told():
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
            async for piece in found.stream(min_chunk_size=_READ_BYTES):
                yield bytes(piece)

    async def read(self, key: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to and without `end`."""
        if start >= end:
            return b""
        with _told():
            return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))

    async def exists(self, key: str) -> bool:
        """Whether there is a blob under the key."""
        try:
            with _told():
                await obstore.head_async(self._store, key)
        except BlobMissingError:
            return False
        return True

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove blobs; one that is not there is no error."""
        for key in keys:
            try:
                with _told():
                    await obstore.delete_async(self._store, key)
            except BlobMissingError:
                continue

    async def listed(self, prefix: str) -> AsyncIterator[tuple[str, float]]:
        """Keys below a prefix, each with the time it was written, in seconds since the epoch."""
        with _told():
            async for batch in obstore.list(self._store, prefix, chunk_size=500):
                for one in batch:
                    yield one["path"], one["last_modified"].timestamp()

    async def check(self) -> None:
        """Raise BlobError if the store cannot be reached."""
        with _told():
            async for _ in obstore.list(self._store, "check/", chunk_size=1):
                break


class _Source:
    """An iterator that keeps the exception it ended with: the library would not tell it from its own."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self.error: BaseException | None = None

    def __aiter__(self) -> "_Source":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._content)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.error = error
            raise


@contextmanager
def _told() -> "Iterator[None]":
    """Turn the library's errors into ours."""
    try:
        yield
    except (NotFoundError, FileNotFoundError) as error:
        raise BlobMissingError(_first_line(error)) from error
    except (BaseError, OSError) as error:
        text = str(error).lower()
        kind = BlobsFullError if any(words in text for words in _NO_SPACE) else BlobError
        raise kind(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
