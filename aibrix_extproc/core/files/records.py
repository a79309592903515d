"""Stored files and uploads as values, and the JSON objects that OpenAI's SDKs parse."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

UPLOAD_LIFE_SECONDS: Final = 3600
LOST: Final = "The content of this file was lost. Delete the file, and upload it again."


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A stored file. Times are whole seconds since the epoch."""

    id: str
    caller: str  # the owner; for everybody else the file does not exist
    purpose: str
    filename: str
    size: int  # bytes
    sha256: str  # hexadecimal
    created_at: int
    expires_at: int | None
    lost: bool = False  # its content cannot be read any more

    def is_expired(self, wall_now: float) -> bool:
        """Whether the file's life is over; it then is as good as deleted."""
        return self.expires_at is not None and wall_now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of a file's bytes in the blob store.

    A file is the concatenation of its segments: parts of an upload and results of a batch become one uncopied.
    """

    blob: str  # key in the blob store
    size: int  # bytes


class UploadStatus(StrEnum):
    """States of an upload. All but the first are final."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """A file that comes in parts. Its own life ends an hour after it was made."""

    id: str
    caller: str
    purpose: str
    filename: str
    mime_type: str
    size: int  # bytes that the parts must have together
    created_at: int
    expires_at: int
    status: UploadStatus
    file_expires_after: int | None = None  # seconds from the upload's creation; None: the purpose's default
    file_id: str | None = None  # of the completed upload

    def status_at(self, wall_now: float) -> UploadStatus:
        """The status, with a pending upload past its time as expired."""
        over = self.status is UploadStatus.PENDING and wall_now >= self.expires_at
        return UploadStatus.EXPIRED if over else self.status


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One part of an upload."""

    id: str
    upload_id: str
    size: int  # bytes
    created_at: int
    blob: str


def file_object(record: FileRecord) -> dict[str, object]:
    """OpenAI's file object."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "error" if record.lost else "processed",
        "status_details": LOST if record.lost else None,
    }


def upload_object(record: UploadRecord, wall_now: float, file: FileRecord | None = None) -> dict[str, object]:
    """OpenAI's upload object; a completed one holds its file."""
    return {
        "id": record.id,
        "object": "upload",
        "bytes": record.size,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": record.status_at(wall_now).value,
        "file": None if file is None else file_object(file),
    }


def part_object(record: PartRecord) -> dict[str, object]:
    """OpenAI's upload part object."""
    return {
        "id": record.id, "object": "upload.part", "created_at": record.created_at, "upload_id": record.upload_id,
    }  # fmt: skip


def deleted_object(file_id: str) -> dict[str, object]:
    """The answer to a deletion."""
    return {"id": file_id, "object": "file", "deleted": True}
