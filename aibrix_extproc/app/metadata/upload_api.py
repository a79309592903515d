"""OpenAI's Uploads API: a large file in parts, in any order and at once, made whole at the end."""

import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aibrix_extproc.adapters.blobs.store import BlobStore
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import QuotaExceededError, TooManyError
from aibrix_extproc.adapters.ledger.uploads import UploadLedger
from aibrix_extproc.adapters.openai_http.call import (
    Call,
    ContentError,
    Handler,
    RefusedError,
    Reply,
    good,
    refuse,
    wanted,
)
from aibrix_extproc.adapters.openai_http.form import read_form
from aibrix_extproc.app.metadata.reading import segments_between
from aibrix_extproc.app.metadata.receiving import Received, Receiver, remove_quietly
from aibrix_extproc.core.files import ids, rules
from aibrix_extproc.core.files.records import (
    UPLOAD_LIFE_SECONDS,
    FileRecord,
    PartRecord,
    Segment,
    UploadRecord,
    UploadStatus,
    part_object,
    upload_object,
)
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.refusals import out_of_range

PREFIX: Final = "parts"
MAX_PART_BYTES: Final = 64 * 1024 * 1024
MAX_UPLOAD_BYTES: Final = 8 * 1024 * 1024 * 1024
MAX_PARTS: Final = 10_000
_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class UploadApi:
    """Handlers of the Uploads API by operation id."""

    ledger: UploadLedger
    files: FileLedger
    blobs: BlobStore
    receiver: Receiver
    wall_clock: Callable[[], float]
    entropy: Callable[[int], bytes]

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_upload": self.create,
            "add_upload_part": self.add_part,
            "complete_upload": self.complete,
            "cancel_upload": self.cancel,
        }

    async def create(self, call: Call) -> Reply:
        """Begin an upload."""
        fields = await call.json()
        size = wanted(fields, "bytes", int, "an integer")
        if not 1 <= size <= MAX_UPLOAD_BYTES:
            raise RefusedError(out_of_range("bytes", size, 1, MAX_UPLOAD_BYTES))
        name = rules.clean_name(wanted(fields, "filename", str, "a string"))
        mime_type = wanted(fields, "mime_type", str, "a string")
        purpose = good(rules.checked_purpose(wanted(fields, "purpose", str, "a string")))
        problem = rules.checked_format(purpose, name)
        if problem is not None:
            raise RefusedError(problem)
        life = good(rules.checked_life(fields.get("expires_after"), "expires_after"))
        now = int(self.wall_clock())
        upload = UploadRecord(
            ids.upload_id(self.entropy(ids.ENTROPY_BYTES)), call.caller, purpose, name, shown(mime_type, 100), size,
            now, now + UPLOAD_LIFE_SECONDS, UploadStatus.PENDING, life,
        )  # fmt: skip
        try:
            await self.ledger.add(upload)
        except TooManyError:
            raise refuse("too_many_uploads") from None
        except QuotaExceededError:
            raise refuse("storage_quota_exceeded") from None
        return Reply(upload_object(upload, now))

    async def add_part(self, call: Call) -> Reply:
        """Store one part."""
        upload = await self._pending(call)
        most = min(MAX_PART_BYTES, upload.size)
        received: list[Received] = []

        async def keep(_: str, content: AsyncIterator[bytes]) -> None:
            received.append(await self.receiver.receive(PREFIX, content, most))

        try:
            await read_form(call, "data", keep)
            if not received:
                raise refuse("missing_required_parameter", param="data")
            part = await self._stored(upload, received[0])
        except BaseException:
            await self.receiver.discard(received[0] if received else None)
            raise
        return Reply(part_object(part))

    async def _stored(self, upload: UploadRecord, received: Received) -> PartRecord:
        # A client that sends parts again must not fill the store: twice the upload is room enough for that.
        if await self.ledger.stored_bytes(upload.id) + received.size > 2 * upload.size + MAX_PART_BYTES:
            raise refuse("upload_too_many_bytes", limit=str(upload.size))
        now = self.wall_clock()
        part_id = ids.part_id(self.entropy(ids.ENTROPY_BYTES))
        part = PartRecord(part_id, upload.id, received.size, int(now), received.blob)
        if not await self.ledger.add_part(part, now, most=MAX_PARTS):
            raise refuse("upload_not_pending", id=upload.id, status="not pending, or full,")
        return part

    async def complete(self, call: Call) -> Reply:
        """Make the file of the parts in the order that the client gives. Asked twice, it answers the same."""
        upload = await self._found(call)
        fields = await call.json()
        now = self.wall_clock()
        if upload.status is UploadStatus.COMPLETED:
            return await self._completed(call.caller, upload, now)
        self._refuse_unless_pending(upload)
        parts = await self._parts(upload, wanted(fields, "part_ids", list, "an array"))
        segments = [Segment(part.blob, part.size) for part in parts]
        total = sum(one.size for one in segments)
        if total != upload.size:
            raise refuse("upload_wrong_size", expected=str(upload.size), got=str(total))
        sha256 = await self._hashed(segments, total, _wanted_md5(fields.get("md5")))
        file = FileRecord(
            ids.file_id(self.entropy(ids.ENTROPY_BYTES)), upload.caller, upload.purpose, upload.filename, total, sha256,
            int(now), rules.expiry(upload.purpose, int(now), upload.file_expires_after),
        )  # fmt: skip
        try:
            unused = await self.ledger.complete(upload.id, file, segments, now)
        except QuotaExceededError:
            raise refuse("storage_quota_exceeded") from None
        if unused is not None:
            await remove_quietly(self.blobs, unused)
        return await self._completed(call.caller, await self._found(call), now)

    async def _completed(self, caller: str, upload: UploadRecord, wall_now: float) -> Reply:
        self._refuse_unless(upload, UploadStatus.COMPLETED)
        file = await self.files.find(caller, upload.file_id or "", wall_now)
        return Reply(upload_object(upload, wall_now, file))

    async def _parts(self, upload: UploadRecord, part_ids: Sequence[Any]) -> list[PartRecord]:
        stored = await self.ledger.parts(upload.id)
        found: list[PartRecord] = []
        seen: set[str] = set()
        for number, part_id in enumerate(part_ids):
            part = stored.get(part_id) if isinstance(part_id, str) else None
            if part is None:
                raise refuse("unknown_part", param=f"part_ids[{number}]", id=shown(str(part_id), 80))
            if part.id in seen:
                raise refuse("part_twice", param=f"part_ids[{number}]", id=part.id)
            seen.add(part.id)
            found.append(part)
        return found

    async def _hashed(self, segments: Sequence[Segment], total: int, md5: str | None) -> str:
        """SHA-256 of the whole file; the client's MD5 is compared on the way."""
        sha256, check = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        try:
            async for piece in segments_between(self.blobs, segments, 0, total):
                sha256.update(piece)
                if md5 is not None:
                    check.update(piece)
        except ContentError as error:
            raise refuse("storage_unavailable") from error
        if md5 is not None and check.hexdigest() != md5:
            raise refuse("wrong_md5", param="md5", expected=md5, got=check.hexdigest())
        return sha256.hexdigest()

    async def cancel(self, call: Call) -> Reply:
        """Cancel a pending upload; its parts are removed. Cancelled twice is cancelled."""
        upload = await self._found(call)
        now = self.wall_clock()
        if upload.status is not UploadStatus.CANCELLED:
            self._refuse_unless_pending(upload)
            blobs = await self.ledger.cancel(upload.id, now)
            await remove_quietly(self.blobs, blobs or ())
            upload = await self._found(call)
            self._refuse_unless(upload, UploadStatus.CANCELLED)
        return Reply(upload_object(upload, now))

    async def _found(self, call: Call) -> UploadRecord:
        upload_id = call.parameters.get("upload_id", "")
        upload = await self.ledger.find(call.caller, upload_id) if ids.is_id(upload_id) else None
        if upload is None:
            raise refuse("upload_not_found", param="upload_id", id=shown(upload_id, 80))
        return upload

    async def _pending(self, call: Call) -> UploadRecord:
        upload = await self._found(call)
        self._refuse_unless_pending(upload)
        return upload

    def _refuse_unless_pending(self, upload: UploadRecord) -> None:
        self._refuse_unless(upload, UploadStatus.PENDING)

    def _refuse_unless(self, upload: UploadRecord, wanted_status: UploadStatus) -> None:
        status = upload.status_at(self.wall_clock())
        if status is not wanted_status:
            raise refuse("upload_not_pending", id=upload.id, status=status.value)


def _wanted_md5(given: object) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or _MD5.fullmatch(given) is None:
        raise refuse("invalid_value", param="md5", message="Invalid value for 'md5': expected 32 hexadecimal digits.")
    return given.lower()
