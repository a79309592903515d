"""Sends a usage record of each exchange to the metadata service. Records that cannot be sent yet wait in a spool."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Final

from aibrix_extproc.adapters.internal_api.client import InternalClient, MessageRefusedError, UnavailableError
from aibrix_extproc.adapters.spool.folder import open_spool
from aibrix_extproc.adapters.spool.ring import Ring
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.access.usage import KIND, MAX_BATCH_BYTES, PATH, RECORDS_AT_ONCE, batch_of, encoded
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.exchange.usage_records import usage_record
from aibrix_extproc.core.openai.wire.estimates import InputRatios
from aibrix_extproc.settings.usage import UsageSettings

logger = logging.getLogger(__name__)

_GATHER_SECONDS: Final = 1.0  # Envoy sends its access log once a second
_TIMEOUT_SECONDS: Final = 10.0
_LONGEST_PAUSE: Final = 15.0
_LAST_SECONDS: Final = 5.0  # for what waits when the process ends


class UsageReporter(Part):
    """An observer of charges, and the task that sends them. Raises SpoolError for a spool that cannot be used."""

    name = "usage"

    def __init__(self, settings: UsageSettings, client: InternalClient, ratios: InputRatios) -> None:
        self._client = client
        size = settings.buffer_bytes
        self._spool = Ring(size) if settings.spool_dir is None else open_spool(settings.spool_dir, self.name, size)
        if self._spool.broken:
            logger.error("usage records of an earlier process could not be read, and are lost")
        self._has_file = settings.spool_dir is not None
        self._ratios = ratios
        self._lost = 0
        self._error = ""
        self._count_sent: Callable[[], None] = _nothing
        self._count_lost: Callable[[], None] = _nothing

    def take(self, charge: Charge) -> None:
        """Keep the record of an exchange until it is sent."""
        if not self._spool.append(encoded(usage_record(charge, self._ratios))):
            self._lose(1, "the spool is full")

    @property
    def degraded(self) -> bool:
        """Whether the service took nothing at the last attempt."""
        return bool(self._error)

    async def run(self) -> None:
        """Send until cancelled, then for some seconds what is left."""
        failures = 0
        try:
            while True:
                if len(self._spool) < RECORDS_AT_ONCE or failures:
                    await asyncio.sleep(_pause(failures))
                failures = 0 if await self._send_batch() else failures + 1
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    while len(self._spool) and await self._send_batch():
                        pass
            await self._end()

    async def _end(self) -> None:
        await self._client.close()
        if len(self._spool):
            what = "wait for the next process" if self._has_file else "are lost"
            logger.error("usage records could not be sent", extra={"records": len(self._spool), "these": what})
        self._spool.close()

    async def _send_batch(self) -> bool:
        """Send the oldest records; whether the service has them, or never will."""
        records = self._spool.oldest(RECORDS_AT_ONCE, MAX_BATCH_BYTES)
        if not records:
            return True
        try:
            await self._client.post(PATH, KIND, batch_of(records), _TIMEOUT_SECONDS)
        except UnavailableError as error:
            self._note(str(error))
            return False
        except MessageRefusedError as error:
            self._lose(len(records), str(error))
        else:
            for _ in records:
                self._count_sent()
        self._spool.drop(len(records))
        self._note("")
        return True

    def _note(self, error: str) -> None:
        if error and not self._error:
            logger.warning("usage records wait", extra={"error": error, "records": len(self._spool)})
        elif self._error and not error:
            logger.info("usage records are sent again", extra={"records": len(self._spool)})
        self._error = error

    def _lose(self, records: int, reason: str) -> None:
        if not self._lost:
            logger.error("usage records are lost", extra={"reason": reason})
        self._lost += records
        for _ in range(records):
            self._count_lost()

    def report(self) -> Mapping[str, object]:
        """The records that wait, the fill of the spool, and the records that are lost."""
        full = round(self._spool.bytes_used / self._spool.capacity, 4)
        return {
            "ok": not self._error, "error": self._error, "waiting": len(self._spool), "full": full, "lost": self._lost,
        }  # fmt: skip

    def register(self, metrics: Meters) -> None:
        """Metrics of records that wait, were sent, or are lost."""
        metrics.gauge("aibrix_extproc_usage_waiting", lambda: len(self._spool))
        metrics.gauge("aibrix_extproc_usage_spool_bytes", lambda: self._spool.bytes_used)
        self._count_sent = metrics.counter("aibrix_extproc_usage_sent_total")
        self._count_lost = metrics.counter("aibrix_extproc_usage_lost_total")


def _nothing() -> None:
    """Counts nothing, until the part is registered."""


def _pause(failures: int) -> float:
    if not failures:
        return _GATHER_SECONDS
    return float(min(0.25 * 2 ** min(failures, 10), _LONGEST_PAUSE)) * (0.75 + random.random() / 2)
