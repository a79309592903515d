"""Uploads and downloads of files through the OpenAI SDK, with a bar at a terminal."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aibrix_extproc.cli.connection import UsageError

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import FileObject

MIB: Final = 1024 * 1024
CHUNKED_BYTES: Final = 64 * MIB  # larger files go in parts, each of which the SDK sends again if it fails
PART_BYTES: Final = 16 * MIB
_PIECE_BYTES: Final = 256 * 1024

Moved = Callable[[int], object]  # bytes so far


def uploaded(client: "OpenAI", path: Path, purpose: str, life_seconds: int | None = None) -> "FileObject":
    """Store a file. Raises UsageError if it cannot be read."""
    more: dict[str, Any] = {} if life_seconds is None else {
        "expires_after": {"anchor": "created_at", "seconds": life_seconds}
    }  # fmt: skip
    try:
        with _Counted(path) as content, _bar(path.name, content.size) as moved:
            content.moved = moved
            if content.size > CHUNKED_BYTES:
                return _in_parts(client, content, path.name, purpose, more)
            return client.files.create(file=(path.name, content), purpose=purpose, **more)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _in_parts(client: "OpenAI", content: "_Counted", name: str, purpose: str, more: dict[str, Any]) -> "FileObject":
    kind = "application/jsonl" if name.endswith(".jsonl") else "application/octet-stream"
    given: Any = {"bytes": content.size, "filename": name, "mime_type": kind, "purpose": purpose, **more}
    upload = client.uploads.create(**given)
    try:
        parts = []
        while piece := content.read(PART_BYTES):
            parts.append(client.uploads.parts.create(upload.id, data=piece).id)
        done = client.uploads.complete(upload.id, part_ids=parts)
    except BaseException:
        with contextlib.suppress(Exception):  # it expires by itself within the hour
            client.uploads.cancel(upload.id)
        raise
    if done.file is None:
        raise UsageError(f"the upload of {name} ended without a file")
    return done.file


def downloaded(client: "OpenAI", file_id: str, path: Path, *, replaces: bool = True) -> Path:
    """Fetch a file's content. The file appears under its name when it is whole. Raises UsageError."""
    if not replaces and path.exists():
        raise UsageError(f"{path} exists; name another file with --output")
    half = path.with_name(path.name + ".part")
    try:
        with client.files.with_streaming_response.content(file_id) as answer, half.open("wb") as file:
            size = answer.headers.get("content-length", "")
            with _bar(path.name, int(size) if size.isdigit() else None) as moved:
                for piece in answer.iter_bytes(_PIECE_BYTES):
                    file.write(piece)
                    moved(file.tell())
        half.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        half.unlink(missing_ok=True)
    return path


class _Counted(io.FileIO):
    """A file that reports how far it has been read, also when a retry begins again."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self.size = path.stat().st_size
        self.moved: Moved = int

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        piece = super().read(-1 if size is None else size) or b""
        self.moved(self.tell())
        return piece


@contextlib.contextmanager
def _bar(name: str, size: int | None) -> Iterator[Moved]:
    """A bar on stderr if that is a terminal."""
    if not sys.stderr.isatty():
        yield int
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=size)
        yield lambda done: progress.update(task, completed=done)
