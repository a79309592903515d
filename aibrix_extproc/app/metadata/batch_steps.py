"""The two steps of a batch that are not lines: its validation and its end."""

import asyncio
import hashlib
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aibrix_extproc.adapters.blobs.store import BlobStore
from aibrix_extproc.adapters.ledger.work import BatchClaim, ShardClaim, Size, TooManyTokensError, WorkLedger
from aibrix_extproc.app.metadata.reading import LostContentError, segments_between
from aibrix_extproc.app.metadata.receiving import remove_quietly
from aibrix_extproc.core.access.limits.enqueued import enqueued_limits
from aibrix_extproc.core.access.limits.records import LimitRecord
from aibrix_extproc.core.batches.lifecycle import BatchStatus
from aibrix_extproc.core.batches.records import BatchRecord
from aibrix_extproc.core.batches.request_lines import LineError, too_many_tokens
from aibrix_extproc.core.batches.splitting import LineSplitter
from aibrix_extproc.core.batches.validation import InputLimits, Validation
from aibrix_extproc.core.files import ids
from aibrix_extproc.core.files.records import FileRecord, Segment
from aibrix_extproc.core.openai.contract.stored import OUTPUT_PURPOSE, PURPOSES

logger = logging.getLogger(__name__)

_SLICE_BYTES: Final = 64 * 1024  # validated between two turns of the event loop

_LOST: Final = json.dumps(
    [LineError("invalid_request", "The content of the batch was lost. Create it again.", "input_file_id").as_object()]
)

Models = Callable[[BatchRecord], Awaitable[frozenset[str]]]


class BatchSteps:
    """Validates and ends batches that this process has claimed."""

    def __init__(
        self,
        ledger: WorkLedger,
        blobs: BlobStore,
        models: Models,
        limits: InputLimits,
        limit_records: Callable[[], Awaitable[Sequence[LimitRecord]]],
        wall_clock: Callable[[], float],
    ) -> None:
        """`models` gives those that the batch's owner may use; `limit_records` those that may limit batches."""
        self._ledger = ledger
        self._blobs = blobs
        self._models = models
        self._limits = limits
        self._limit_records = limit_records
        self._wall_clock = wall_clock

    async def validate(self, claim: BatchClaim) -> None:
        """Look at every line; start the batch, or fail it with all that is wrong. Raises LeaseLostError."""
        batch = claim.batch
        models = await self._models(batch)
        validation = Validation(batch.endpoint, models.__contains__, self._limits)
        splitter = LineSplitter(self._limits.line_bytes)
        content = await self._ledger.content(batch.id)
        total = sum(one.size for one in content)
        try:
            async for piece in segments_between(self._blobs, content, 0, total):
                for start in range(0, len(piece), _SLICE_BYTES):
                    for line in splitter.feed(piece[start : start + _SLICE_BYTES]):
                        validation.feed(line)
                    await asyncio.sleep(0)
        except LostContentError:  # nothing has run yet: its owner knows at once
            return await remove_quietly(self._blobs, await self._ledger.fail(claim, _LOST))
        for line in splitter.end():
            validation.feed(line)
        errors = validation.errors
        if errors:
            errors_json = json.dumps([one.as_object() for one in errors], ensure_ascii=False)
            await remove_quietly(self._blobs, await self._ledger.fail(claim, errors_json))
        else:
            await self._start(claim, validation)

    async def _start(self, claim: BatchClaim, validation: Validation) -> None:
        model = validation.model or ""
        records = await self._limit_records()
        limits = enqueued_limits(records, claim.batch.caller, model, default=self._limits.enqueued_tokens)
        try:
            size = Size(validation.total, validation.tokens)
            await self._ledger.start(claim, model, validation.shards, size, limits)
        except TooManyTokensError as error:
            errors_json = json.dumps(
                [too_many_tokens(error.limit.model, error.limit.tokens).as_object()], ensure_ascii=False
            )
            await remove_quietly(self._blobs, await self._ledger.fail(claim, errors_json))

    async def gave_up(self, claim: BatchClaim | ShardClaim) -> bool:
        """End a batch whose content is lost, once its time is over; until then a store may come back with it."""
        if self._wall_clock() < claim.batch.expires_at:
            return False
        logger.error("batch failed, its content is lost", extra={"batch": claim.batch.id})
        await remove_quietly(self._blobs, await self._ledger.abandon(claim, _LOST))
        return True

    async def end(self, claim: BatchClaim) -> None:
        """Make the files of a batch whose shards are all done, in one transaction. Raises LeaseLostError."""
        batch = claim.batch
        await self._ledger.finalize(claim)
        output, errors = await self._ledger.results(batch.id)
        now = int(self._wall_clock())
        files = []
        for column, content, name in (
            ("output_file_id", output, "output"), ("error_file_id", errors, "error"),
        ):  # fmt: skip
            if content:
                files.append((column, await self._file(batch, content, name, now), content))
        await remove_quietly(self._blobs, await self._ledger.end(claim, self._last_status(batch), files))

    async def _file(self, batch: BatchRecord, content: list[Segment], name: str, now: int) -> FileRecord:
        size = sum(one.size for one in content)
        digest = hashlib.sha256()
        async for piece in segments_between(self._blobs, content, 0, size):
            digest.update(piece)
        # The id follows from the batch, so that a second try makes no second file.
        entropy = hashlib.blake2b(f"{batch.id} {name}".encode(), digest_size=ids.ENTROPY_BYTES).digest()
        life = batch.output_expires_after or PURPOSES["batch"]
        return FileRecord(
            ids.file_id(entropy), batch.caller, OUTPUT_PURPOSE, f"{batch.id}_{name}.jsonl", size,
            digest.hexdigest(), now, None if life is None else now + life,
        )  # fmt: skip

    def _last_status(self, batch: BatchRecord) -> BatchStatus:
        if batch.status is BatchStatus.CANCELLING:
            return BatchStatus.CANCELLED
        unexecuted = batch.completed + batch.failed < batch.total
        return BatchStatus.EXPIRED if unexecuted else BatchStatus.COMPLETED
