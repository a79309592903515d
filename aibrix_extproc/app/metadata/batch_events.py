"""Progress of a batch as server-sent events, an extension of the Batch API."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

from aibrix_extproc.adapters.ledger.batches import BatchLedger
from aibrix_extproc.adapters.ledger.errors import DatabaseError
from aibrix_extproc.adapters.openai_http.call import Call, Handler, StreamReply, refuse
from aibrix_extproc.core.batches.lifecycle import TERMINAL
from aibrix_extproc.core.batches.pace import Pace
from aibrix_extproc.core.batches.records import BatchRecord, batch_object
from aibrix_extproc.core.files import ids
from aibrix_extproc.core.openai.contract.operations import shown

MAX_FOLLOWERS: Final = 256  # in one process; each looks into the database once a second
LOOK_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 15.0  # after which a comment says that the connection lives
_HEADERS: Final = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}


class BatchEvents:
    """Follows batches for clients, until they end or the service does."""

    def __init__(self, ledger: BatchLedger, look_seconds: float = LOOK_SECONDS) -> None:
        self._ledger = ledger
        self._look_seconds = look_seconds
        self._closing = asyncio.Event()
        self._followers = 0

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {"batch_events": self.follow}

    def close(self) -> None:
        """End all streams; clients ask again, and another process answers."""
        self._closing.set()

    async def follow(self, call: Call) -> StreamReply:
        """One event now, one with each change, and the last one with the end."""
        batch_id = call.parameters.get("batch_id", "")
        batch = await self._ledger.find(call.caller, batch_id) if ids.is_id(batch_id) else None
        if batch is None:
            raise refuse("batch_not_found", id=shown(batch_id, 80))
        if self._followers >= MAX_FOLLOWERS:
            raise refuse("storage_unavailable")
        return StreamReply(self._counted(batch), None, headers=_HEADERS)

    async def _counted(self, batch: BatchRecord) -> AsyncIterator[bytes]:
        self._followers += 1
        try:
            async for event in self._events(batch):
                yield event
        finally:
            self._followers -= 1

    async def _events(self, batch: BatchRecord) -> AsyncIterator[bytes]:
        pace, sent_at, sent = Pace(), time.monotonic(), b""
        found: BatchRecord | None = batch
        while found is not None:
            now = time.monotonic()
            pace.observe(now, found.completed + found.failed)
            state = json.dumps(batch_object(found), ensure_ascii=False).encode("utf-8", "replace")
            if state != sent:
                yield _event(found, pace)
                sent, sent_at = state, now
            elif now - sent_at >= QUIET_SECONDS:
                yield b": nothing new\n\n"
                sent_at = now
            if found.status in TERMINAL or await self._closed():
                return
            try:
                found = await self._ledger.find(batch.caller, batch.id)
            except DatabaseError:
                continue  # the next look may be luckier; until then nothing is new

    async def _closed(self) -> bool:
        try:
            async with asyncio.timeout(self._look_seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True


def _event(batch: BatchRecord, pace: Pace) -> bytes:
    rate, left = pace.rate, pace.seconds_left(batch.total)
    progress = {
        "requests_per_second": None if rate is None else round(rate, 3),
        "seconds_left": None if left is None else round(left, 1),
    }
    data = json.dumps(batch_object(batch) | {"progress": progress}, ensure_ascii=False, separators=(",", ":"))
    return b"event: batch\ndata: %b\n\n" % data.encode("utf-8", "replace")
