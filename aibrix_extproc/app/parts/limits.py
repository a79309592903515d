"""The limits in force and their counters: the file, the key file and control records; Redis and leases."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aibrix_extproc.adapters.counters.memory import MemoryCounters
from aibrix_extproc.adapters.counters.redis import RedisCounters
from aibrix_extproc.adapters.counters.target import target_of
from aibrix_extproc.adapters.limitfile.source import read_limits
from aibrix_extproc.app.limiting import Limiter
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.app.shared_counters import SharedCounters
from aibrix_extproc.config_files.file import FollowedFile, SourceStatus
from aibrix_extproc.core.access.limits.book import LimitBook
from aibrix_extproc.core.access.limits.estimates import Estimator
from aibrix_extproc.core.access.limits.records import Record
from aibrix_extproc.core.openai.wire.estimates import InputRatios
from aibrix_extproc.settings import RateLimitSettings, RedisSettings, WhenAway

logger = logging.getLogger(__name__)

KEEP_SECONDS: Final = 900.0  # a reservation may be settled for so long; running ones are kept longer
LEASE_SECONDS: Final = 30.0  # of a dead gateway
RENEW_SECONDS: Final = 8.0
PRESENCE_SECONDS: Final = 2.0  # a gateway reports itself so often
_GATEWAYS: Final = "gateways"
_AT_ONCE: Final = 500


class Limits(Part):
    """One per process. Raises SourceError for a file or a URL that cannot be used."""

    name = "limits"

    def __init__(
        self,
        settings: RateLimitSettings,
        redis: RedisSettings,
        of_keys: Callable[[], Sequence[Record]],
        serves: Callable[[str], bool],
        *,
        metering: bool,
        limited: Callable[[str], None],
        warned: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._of_keys = of_keys
        self._seen_keys: Sequence[Record] = ()
        self._of_file: tuple[Record, ...] = ()
        self._of_control: tuple[Record, ...] = ()
        self._file: FollowedFile[tuple[Record, ...]] | None = None
        if settings.file is not None:
            self._file = FollowedFile("limits", settings.file, read_limits, self._on_status)
            self._of_file = read_limits(settings.file)
        self._issuer = os.urandom(6).hex()
        self._replicas = settings.replicas
        self._changed = asyncio.Event()  # Redis went away or came back
        memory = MemoryCounters(keep_seconds=KEEP_SECONDS, lease_seconds=LEASE_SECONDS)
        self._shared = self._connected(redis, memory) if redis.url else None
        # Not `or`: counters without any counter yet have the length 0.
        self.counters: MemoryCounters | SharedCounters = memory if self._shared is None else self._shared
        self._book = LimitBook()
        self._build()
        self.ratios = InputRatios()
        self.limiter = Limiter(
            lambda: self.book,
            self.counters,
            Estimator(self.ratios, settings.cached_token_weight),
            serves,
            issuer=self._issuer,
            metering=metering,
            limited=limited,
            warned=warned,
        )

    @property
    def book(self) -> LimitBook:
        """The limits in force."""
        if self._of_keys() is not self._seen_keys:
            self._build()
        return self._book

    @property
    def degraded(self) -> bool:
        """Whether Redis is away, or the file is broken."""
        return self.counters.is_away or (self._file is not None and not self._file.status.ok)

    def use_control(self, records: Sequence[Record]) -> None:
        """Take the records of the metadata service."""
        self._of_control = tuple(records)
        self._build()

    async def run(self) -> None:
        """Follow the file and keep Redis, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._file is not None:
                tasks.create_task(self._file.run(self._take))
            if self._shared is not None:
                tasks.create_task(self._shared.redis.run())
                tasks.create_task(self._be_present(self._shared))
            tasks.create_task(self._renew())

    def report(self) -> Mapping[str, object]:
        """The number of limits, and whether Redis counts them."""
        found: dict[str, object] = {"records": len(self._of_file) + len(self._seen_keys) + len(self._of_control)}
        if self._file is not None:
            status = self._file.status
            found |= {"ok": status.ok, "error": status.error, "since": status.wall_since}
        if self._shared is None:
            return found | {"counters": "memory", "replicas": self._replicas}
        redis = self._shared.redis
        found |= {"away": redis.is_away, "gateways": self._replicas, "when_away": self._settings.when_away.value}
        if redis.is_away:
            alone = "share" if self._settings.when_away is WhenAway.OPEN else "none"
            return found | {"counters": alone, "reason": redis.why_away}
        return found | {"counters": "redis and share" if redis.is_gathering else "redis"}

    def register(self, metrics: Meters) -> None:
        """Counters, and how Redis is."""
        metrics.gauge("aibrix_extproc_limit_counters", lambda: len(self.counters))
        shared = self._shared
        if shared is not None:
            metrics.gauge("aibrix_extproc_limits_redis_ok", lambda: not shared.is_away)
            metrics.gauge("aibrix_extproc_limits_gateways", lambda: self._replicas)
            metrics.gauge("aibrix_extproc_limits_admitted_alone", lambda: shared.admitted_locally)
            metrics.gauge("aibrix_extproc_limits_unsettled", lambda: shared.redis.dropped)
            metrics.gauge("aibrix_extproc_limits_mended", lambda: shared.redis.mended)

    def _connected(self, redis: RedisSettings, memory: MemoryCounters) -> SharedCounters:
        counters = RedisCounters(
            target_of(redis.url, redis.password_file, redis.ca_file),
            redis.prefix,
            redis.timeout_ms / 1000,
            keep_seconds=KEEP_SECONDS,
            lease_seconds=LEASE_SECONDS,
            on_change=self._changed.set,
        )
        return SharedCounters(
            counters, memory, lambda: self._replicas, closed=self._settings.when_away is WhenAway.CLOSED
        )

    async def _be_present(self, shared: SharedCounters) -> None:
        """Count the live gateways, and repay debts and renew leases when Redis goes or comes."""
        while True:
            self._changed.clear()
            await shared.repay()
            await self._renew_leases()
            found = await shared.redis.renew(_GATEWAYS, (self._issuer,))
            if found is not None:
                # Those that are not back yet are counted as if they were.
                least = self._replicas if shared.redis.is_gathering else self._settings.replicas
                self._replicas = max(found, least)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PRESENCE_SECONDS):
                    await self._changed.wait()

    async def _renew(self) -> None:
        """Keep the leases of running requests."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._renew_leases()

    async def _renew_leases(self) -> None:
        members: dict[str, list[str]] = {}
        for reservation, counters in list(self.limiter.running.items()):
            for counter in counters:
                members.setdefault(counter, []).append(reservation)
        for counter, of in members.items():
            for start in range(0, len(of), _AT_ONCE):
                some = of[start : start + _AT_ONCE]
                if self._shared is not None:
                    await self._shared.renew(counter, some)
                elif isinstance(self.counters, MemoryCounters):
                    self.counters.renew(counter, some)
                await asyncio.sleep(0)

    def _build(self) -> None:
        self._seen_keys = self._of_keys()
        alone = self._shared is None
        self._book = LimitBook(
            (*self._of_control, *self._seen_keys, *self._of_file), share=self._settings.replicas if alone else 1
        )

    def _take(self, records: tuple[Record, ...]) -> None:
        self._of_file = records
        self._build()
        logger.info("limits read", extra={"records": len(records)})

    def _on_status(self, status: SourceStatus) -> None:
        if status.ok:
            logger.info("file of limits is good")
        else:
            logger.error("file of limits is broken, the last good limits stay in use", extra={"error": status.error})
