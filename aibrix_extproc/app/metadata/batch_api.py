"""OpenAI's Batch API: create, list, retrieve, cancel."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aibrix_extproc.adapters.ledger.batches import BatchLedger
from aibrix_extproc.adapters.ledger.files import FileLedger
from aibrix_extproc.adapters.ledger.quotas import TooManyError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, RefusedError, Reply, good, refuse, wanted
from aibrix_extproc.core.batches.lifecycle import TERMINAL, BatchStatus
from aibrix_extproc.core.batches.metadata import checked_metadata
from aibrix_extproc.core.batches.records import WINDOW, WINDOW_SECONDS, BatchRecord, batch_object
from aibrix_extproc.core.batches.request_lines import LineError
from aibrix_extproc.core.files import ids, rules
from aibrix_extproc.core.files.records import FileRecord
from aibrix_extproc.core.openai.contract.operation_rows import BATCH_OPERATIONS
from aibrix_extproc.core.openai.contract.operations import shown
from aibrix_extproc.core.openai.contract.paging import list_object, read_page
from aibrix_extproc.core.openai.contract.refusals import unsupported


@dataclass(frozen=True, slots=True)
class BatchApi:
    """Handlers of the Batch API by operation id."""

    ledger: BatchLedger
    files: FileLedger
    wall_clock: Callable[[], float]
    entropy: Callable[[int], bytes]
    wake: Callable[[], None]  # there is work

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {
            "create_batch": self.create,
            "list_batches": self.list,
            "retrieve_batch": self.retrieve,
            "cancel_batch": self.cancel,
        }

    async def create(self, call: Call) -> Reply:
        """Begin a batch. What is wrong with its file is found later and fails it, as OpenAI does."""
        fields = await call.json()
        endpoint = wanted(fields, "endpoint", str, "a string")
        if endpoint not in BATCH_OPERATIONS:
            raise RefusedError(unsupported("endpoint", endpoint, tuple(BATCH_OPERATIONS)))
        window = wanted(fields, "completion_window", str, "a string")
        if window != WINDOW:
            raise RefusedError(unsupported("completion_window", window, (WINDOW,)))
        input_file_id = wanted(fields, "input_file_id", str, "a string")
        metadata = good(checked_metadata(fields.get("metadata")))
        life = good(rules.checked_life(fields.get("output_expires_after"), "output_expires_after"))
        now = int(self.wall_clock())
        file = await self._file(call.caller, input_file_id)
        record = BatchRecord(
            id=ids.batch_id(self.entropy(ids.ENTROPY_BYTES)), caller=call.caller, endpoint=endpoint,
            input_file_id=shown(input_file_id, 80), completion_window=window,
            status=BatchStatus.FAILED if file is None else BatchStatus.VALIDATING,
            created_at=now, expires_at=now + WINDOW_SECONDS, failed_at=now if file is None else None,
            metadata=None if metadata is None else json.dumps(metadata, ensure_ascii=False),
            errors=_no_file(input_file_id) if file is None else None, output_expires_after=life,
        )  # fmt: skip
        try:
            await self.ledger.add(record, [] if file is None else await self.files.segments(file.id))
        except TooManyError:
            raise refuse("too_many_batches") from None
        self.wake()
        # OpenAI answers `validating` here whatever the file is.
        return Reply(batch_object(record) | {"status": "validating", "errors": None, "failed_at": None})

    async def _file(self, caller: str, file_id: str) -> FileRecord | None:
        if not ids.is_id(file_id):
            return None
        found = await self.files.find(caller, file_id, self.wall_clock())
        if found is not None and found.purpose != "batch":
            message = f"The input file of a batch must have the purpose 'batch', not '{found.purpose}'."
            raise refuse("invalid_value", param="input_file_id", message=message)
        return found

    async def list(self, call: Call) -> Reply:
        """One page of the caller's batches, newest first."""
        page = good(read_page(call.query, default=20, largest=100))
        found = await self.ledger.page(call.caller, page)
        if found is None:
            raise refuse("batch_not_found", id=shown(page.after or "", 80))
        records, has_more = found
        return Reply(list_object([batch_object(one) for one in records], has_more=has_more))

    async def retrieve(self, call: Call) -> Reply:
        """One batch object."""
        return Reply(batch_object(await self._found(call)))

    async def cancel(self, call: Call) -> Reply:
        """Ask for the end of a batch; asked twice, it answers the same."""
        batch = await self._found(call)
        if batch.status not in TERMINAL:
            await self.ledger.cancel(call.caller, batch.id, self.wall_clock())
            self.wake()
            batch = await self._found(call)
        if batch.status in (BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED):
            raise refuse("batch_not_cancellable", status=batch.status.value)
        return Reply(batch_object(batch))

    async def _found(self, call: Call) -> BatchRecord:
        batch_id = call.parameters.get("batch_id", "")
        batch = await self.ledger.find(call.caller, batch_id) if ids.is_id(batch_id) else None
        if batch is None:
            raise refuse("batch_not_found", id=shown(batch_id, 80))
        return batch


def _no_file(file_id: str) -> str:
    message = f"Cannot find file {shown(file_id, 80)}, or you do not have access to it."
    return json.dumps([LineError("invalid_request", message, "file_id").as_object()])
