"""Progress of a batch as server-sent events, an extension of the Batch API."""

import json
import time
from collections.abc import Mapping

from aibrix_extproc.adapters.ledger.batches import BatchLedger
from aibrix_extproc.adapters.openai_http.call import Call, Handler, StreamReply, refuse
from aibrix_extproc.app.metadata.following import Followed, Followers
from aibrix_extproc.core.batches.lifecycle import TERMINAL
from aibrix_extproc.core.batches.pace import Pace
from aibrix_extproc.core.batches.records import BatchRecord, batch_object
from aibrix_extproc.core.files import ids
from aibrix_extproc.core.openai.contract.operations import shown


class BatchEvents:
    """Follows batches for clients, until they end or the service does."""

    def __init__(self, ledger: BatchLedger, followers: Followers) -> None:
        self._ledger = ledger
        self._followers = followers

    def handlers(self) -> Mapping[str, Handler]:
        """What an API server needs."""
        return {"batch_events": self.follow}

    async def follow(self, call: Call) -> StreamReply:
        """One event now, one with each change, and the last one with the end."""
        batch_id = call.parameters.get("batch_id", "")
        batch = await self._ledger.find(call.caller, batch_id) if ids.is_id(batch_id) else None
        if batch is None:
            raise refuse("batch_not_found", id=shown(batch_id, 80))
        caller, pace = call.caller, Pace()

        def state(found: BatchRecord) -> bytes:
            pace.observe(time.monotonic(), found.completed + found.failed)
            return json.dumps(batch_object(found), ensure_ascii=False).encode("utf-8", "replace")

        return self._followers.reply(
            Followed(
                batch,
                find=lambda: self._ledger.find(caller, batch_id),
                state=state,
                event=lambda found: _event(found, pace),
                has_ended=lambda found: found.status in TERMINAL,
            )
        )


def _event(batch: BatchRecord, pace: Pace) -> bytes:
    rate, left = pace.rate, pace.seconds_left(batch.total)
    progress = {
        "requests_per_second": None if rate is None else round(rate, 3),
        "seconds_left": None if left is None else round(left, 1),
    }
    data = json.dumps(batch_object(batch) | {"progress": progress}, ensure_ascii=False, separators=(",", ":"))
    return b"event: batch\ndata: %b\n\n" % data.encode("utf-8", "replace")
