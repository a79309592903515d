"""Runs the lines of one shard: sends what has no result yet, commits results as they come, and puts them in order."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from aibrix_extproc.adapters.blobs.store import BlobError, BlobStore
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.ledger.work import LeaseLostError, Progress, ShardClaim, WorkLedger
from aibrix_extproc.app.metadata.leases import Lease
from aibrix_extproc.app.metadata.line_sender import LineSender, Outcome
from aibrix_extproc.app.metadata.reading import segments_between
from aibrix_extproc.app.metadata.receiving import remove_quietly
from aibrix_extproc.core.batches.records import Usage
from aibrix_extproc.core.batches.request_lines import RequestLine, read_line
from aibrix_extproc.core.batches.results import Result, files_of, read_segment, segment
from aibrix_extproc.core.batches.splitting import LineSplitter
from aibrix_extproc.core.files.records import Segment
from aibrix_extproc.http2.rate_limited_log import RateLimitedLog

logger = logging.getLogger(__name__)

PREFIX: Final = "batches"
COMMIT_RESULTS: Final = 250
COMMIT_BYTES: Final = 4 * 1024 * 1024
COMMIT_SECONDS: Final = 2.0  # a result is lost for at most this long if the process dies
LINES_AT_ONCE: Final = 64  # of one shard, waiting or running
_RETRY_SECONDS: Final = 1.0


class ShardRunner:
    """One claimed shard."""

    def __init__(
        self,
        ledger: WorkLedger,
        blobs: BlobStore,
        sender: LineSender,
        new_key: Callable[[str], str],
        max_line_bytes: int,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._sender = sender
        self._new_key = new_key
        self._max_line_bytes = max_line_bytes
        self._failures = RateLimitedLog(logger, time.monotonic, 1)

    async def run(self, claim: ShardClaim, lease: Lease) -> None:
        """Run to the end. Raises LeaseLostError; what is committed then stays, and nothing of it runs again."""
        done = await self._committed(claim)
        lines = await self._lines(claim)
        waiting = [(number, request) for number, request in lines.items() if number not in done]
        # Lines that begin alike follow each other, so that an engine finds their prefix in its cache.
        waiting.sort(key=lambda one: one[1].beginning)
        results = _Results(self, claim, lease)
        await self._send(claim, lease, waiting, results)
        await results.commit()
        await self._finish(claim)

    async def _send(
        self, claim: ShardClaim, lease: Lease, waiting: list[tuple[int, RequestLine]], results: "_Results"
    ) -> None:
        queue = iter(waiting)
        all_sent = asyncio.Event()

        async def work() -> None:
            for number, request in queue:
                results.take(await self._sender.run(claim.batch, lease, number, request))
                if results.due:
                    await results.commit()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(results.commit_now_and_then(all_sent))
            workers = [tasks.create_task(work()) for _ in range(min(LINES_AT_ONCE, len(waiting)))]
            if workers:
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            all_sent.set()

    async def _committed(self, claim: ShardClaim) -> dict[int, Result]:
        found: dict[int, Result] = {}
        for one in await self._ledger.segments(claim):
            content = await self._blobs.read(one.blob, 0, one.size)
            found.update((result.line, result) for result in read_segment(content))
        return found

    async def _lines(self, claim: ShardClaim) -> dict[int, RequestLine]:
        shard = claim.shard
        splitter = LineSplitter(self._max_line_bytes, number=shard.first_line, start=shard.start)
        found: dict[int, RequestLine] = {}
        content = await self._ledger.content(claim.batch.id)

        def keep(lines: list[tuple[int, bytes]]) -> None:
            for number, text in lines:
                request = read_line(text, claim.batch.endpoint, number)
                if isinstance(request, RequestLine):  # all are: the batch was validated
                    found[number] = request

        async for piece in segments_between(self._blobs, content, shard.start, shard.end):
            keep([(line.number, line.text) for line in splitter.feed(piece) if line.text and not line.is_blank])
        keep([(line.number, line.text) for line in splitter.end() if line.text and not line.is_blank])
        return found

    async def store(self, claim: ShardClaim, lease: Lease, outcomes: list[Outcome]) -> None:
        """Commit results: the blob first, then its row. A storage that fails is waited for as long as the lease holds.

        Meanwhile the shard's lines come to rest one by one, as each of them that is answered waits for this commit.
        """
        content = segment(one.result for one in outcomes)
        kept = Segment(self._new_key(PREFIX), len(content))
        usage = sum((one.usage for one in outcomes), Usage())
        executed = [one.result.succeeded for one in outcomes if one.executed]
        progress = Progress(sum(executed), len(executed) - sum(executed), usage)
        while True:
            try:
                await self._blobs.put_bytes(kept.blob, content)
                return await self._ledger.commit(claim, kept, progress)
            except (DatabaseError, BlobError, OSError, TimeoutError) as error:
                if not lease.alive:
                    raise LeaseLostError from error
                self._failures.warn("results were not stored, it is tried again", error=repr(error)[:300])
            await asyncio.sleep(_RETRY_SECONDS)

    async def _finish(self, claim: ShardClaim) -> None:
        output, errors = files_of((await self._committed(claim)).values())
        stored = []
        for content in (output, errors):
            key = self._new_key(PREFIX)
            if content:
                await self._blobs.put_bytes(key, content)
            stored.append(Segment(key, len(content)) if content else None)
        await remove_quietly(self._blobs, await self._ledger.finish(claim, *stored))


class _Results:
    """Outcomes that are not committed yet. Commits follow each other, so that one lost lease is enough to stop all."""

    def __init__(self, runner: ShardRunner, claim: ShardClaim, lease: Lease) -> None:
        self._runner = runner
        self._claim = claim
        self._lease = lease
        self._outcomes: list[Outcome] = []
        self._bytes = 0
        self._lock = asyncio.Lock()

    @property
    def due(self) -> bool:
        """Whether there is enough for a segment."""
        return len(self._outcomes) >= COMMIT_RESULTS or self._bytes >= COMMIT_BYTES

    def take(self, outcome: Outcome) -> None:
        """One more."""
        self._outcomes.append(outcome)
        self._bytes += len(outcome.result.text)

    async def commit(self) -> None:
        """Store what is there."""
        async with self._lock:
            outcomes, self._outcomes, self._bytes = self._outcomes, [], 0
            if outcomes:
                await self._runner.store(self._claim, self._lease, outcomes)

    async def commit_now_and_then(self, all_sent: asyncio.Event) -> None:
        """Until every line has been sent. A commit that has begun is then finished, not broken off."""
        while not all_sent.is_set():
            try:
                async with asyncio.timeout(COMMIT_SECONDS):
                    await all_sent.wait()
            except TimeoutError:
                await self.commit()
