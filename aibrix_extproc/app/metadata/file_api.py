"""OpenAI's Files API: create, list, retrieve, delete, content."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aibrix_extproc.adapters.blobs.store import BlobStore
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import QuotaExceededError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, RefusedError, Reply, StreamReply, good, refuse
from aibrix_extproc.adapters.openai_http.form import Form, read_form
from aibrix_extproc.app.metadata.reading import LostContentError, begun, segments_between
from aibrix_extproc.app.metadata.receiving import Received, Receiver, remove_quietly
from aibrix_extproc.core.files import ids, rules
from aibrix_extproc.core.files.ranges import NotSatisfiable, is_same_content, read_range
from aibrix_extproc.core.files.records import FileRecord, Segment, deleted_object, file_object
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.paging import list_object, read_page
from aibrix_extproc.core.openai.contract.refusals import unsupported
from aibrix_extproc.core.openai.contract.stored import LISTED_PURPOSES, NOT_DOWNLOADED

logger = logging.getLogger(__name__)

PREFIX: Final = "files"


@dataclass(frozen=True, slots=True)
class FileApi:
    """Handlers of the Files API by operation id."""

    ledger: FileLedger
    blobs: BlobStore
    receiver: Receiver
    max_file_bytes: int
    wall_clock: Callable[[], float]
    entropy: Callable[[int], bytes]

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_file": self.create,
            "list_files": self.list,
            "retrieve_file": self.retrieve,
            "delete_file": self.delete,
            "file_content": self.content,
        }

    async def create(self, call: Call) -> Reply:
        """Store a file. The row is written last: what was interrupted before leaves no file."""
        received: list[Received] = []

        async def keep(_: str, content: AsyncIterator[bytes]) -> None:
            received.append(await self.receiver.receive(PREFIX, content, self.max_file_bytes))

        try:
            form = await read_form(call, "file", keep)
            record = self._checked(call.caller, form, received)
            await self._commit(record, [Segment(received[0].blob, received[0].size)])
        except BaseException:
            await self.receiver.discard(received[0] if received else None)
            raise
        return Reply(file_object(record))

    def _checked(self, caller: str, form: Form, received: list[Received]) -> FileRecord:
        if not received or form.filename is None:
            raise refuse("missing_required_parameter", param="file")
        purpose = good(rules.checked_purpose(form.fields.get("purpose")))
        name = rules.clean_name(form.filename)
        life = good(
            rules.life_of_form(form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]"))
        )
        problem = rules.checked_format(purpose, name)
        if problem is not None:
            raise RefusedError(problem)
        if not received[0].size:
            raise refuse("empty_file", param="file")
        now = int(self.wall_clock())
        return FileRecord(
            ids.file_id(self.entropy(ids.ENTROPY_BYTES)), caller, purpose, name, received[0].size, received[0].sha256,
            now, rules.expiry(purpose, now, life),
        )  # fmt: skip

    async def _commit(self, record: FileRecord, segments: list[Segment]) -> None:
        try:
            await self.ledger.add(record, segments)
        except QuotaExceededError:
            raise refuse("storage_quota_exceeded") from None

    async def list(self, call: Call) -> Reply:
        """One page of the caller's files."""
        page = good(read_page(call.query, default=10_000, largest=10_000))
        purpose = call.query.get("purpose") or None
        if purpose is not None and purpose not in LISTED_PURPOSES:
            raise RefusedError(unsupported("purpose", purpose, tuple(sorted(LISTED_PURPOSES))))
        found = await self.ledger.page(call.caller, page, self.wall_clock(), purpose)
        if found is None:
            raise refuse("file_not_found", param="after", id=shown(page.after or "", 80))
        records, has_more = found
        return Reply(list_object([file_object(one) for one in records], has_more=has_more))

    async def retrieve(self, call: Call) -> Reply:
        """One file object."""
        return Reply(file_object(await self._found(call)))

    async def delete(self, call: Call) -> Reply:
        """Delete a file; its content goes when nothing refers to it any more."""
        record = await self._found(call)
        blobs = await self.ledger.delete(call.caller, record.id, self.wall_clock())
        if blobs is None:
            raise _no_such_file(record.id)
        await remove_quietly(self.blobs, blobs)
        return Reply(deleted_object(record.id))

    async def content(self, call: Call) -> StreamReply:
        """The bytes of a file, or of the range that the client asks for."""
        record = await self._found(call)
        if record.purpose in NOT_DOWNLOADED:
            raise refuse("download_refused", purpose=record.purpose)
        etag, asked = f'"{record.sha256}"', call.request.headers
        headers = {
            "content-type": "application/octet-stream",
            "content-disposition": rules.content_disposition(record.filename),
            "accept-ranges": "bytes",
            "etag": etag,
        }
        wanted = asked.get("range") if is_same_content(asked.get("if-range"), etag) else None
        try:
            span = read_range(wanted, record.size)
        except NotSatisfiable:
            raise RefusedError(rules.not_satisfiable(record.size)) from None
        start, end = (0, record.size) if span is None else (span.start, span.end)
        segments = await self.ledger.segments(record.id)
        content = await self._begun(record, segments_between(self.blobs, segments, start, end))
        if span is None:
            return StreamReply(content, record.size, 200, headers)
        return StreamReply(content, end - start, 206, {**headers, "content-range": span.content_range(record.size)})

    async def _begun(self, record: FileRecord, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            return await begun(content)
        except LostContentError:
            logger.error("content of a file is lost", extra={"file": record.id, "caller": record.caller})
            raise refuse("file_content_lost", id=record.id) from None

    async def _found(self, call: Call) -> FileRecord:
        file_id = call.parameters.get("file_id", "")
        record = None
        if ids.is_id(file_id):
            record = await self.ledger.find(call.caller, file_id, self.wall_clock())
        if record is None:
            raise _no_such_file(file_id)
        return record


def _no_such_file(file_id: str) -> RefusedError:
    return refuse("file_not_found", param="id", id=shown(file_id, 80))
