"""Tells other gateways what this one places, and takes in what they tell, over a Redis; nothing waits for it."""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from aibrix_extproc.adapters.counters.feed import RedisFeed
from aibrix_extproc.adapters.counters.target import target_of
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.app.parts.predicting import Predicting
from aibrix_extproc.core.access.seals import SealKey
from aibrix_extproc.core.fleet.model import Snapshot
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.learned import learned, remember
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.sharing.others import Others
from aibrix_extproc.core.routing.sharing.outbox import Outbox
from aibrix_extproc.settings.shared_limits import RedisSettings

PURPOSE: Final = b"aibrix shared 1"
_SEED_PURPOSE: Final = b"aibrix prefix 1"
_FORGED: Final = "forged"


def prefix_seed(secret: bytes) -> int:
    """The seed of the hashes of prompts, of all processes with this secret: 64 bits, never 0."""
    return int.from_bytes(hashlib.blake2b(secret, digest_size=8, person=_SEED_PURPOSE).digest()) | 1


class KnownEndpoints:
    """The identities of the fleet, made anew when somebody asks after a change."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._of: Snapshot | None = None
        self._identities: frozenset[str] = frozenset()

    def __contains__(self, identity: str) -> bool:
        now = self._snapshot()
        if now is not self._of:
            self._of, self._identities = now, frozenset(one.identity for one in now.endpoints)
        return identity in self._identities


class Sharing(Part):
    """One per process; works once a strategy needs predictions. Raises SourceError for a Redis that cannot be meant."""

    name = "sharing"

    def __init__(
        self,
        redis: RedisSettings,
        predictor: Predictor,
        predicting: Predicting,
        store: FleetStore,
        secrets: Sequence[bytes],
        sender: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        """`sender`: a random number of this process. `clock`: the one that the predictor is told the time by."""
        self._clock = clock
        self._store = store
        known = KnownEndpoints(lambda: store.snapshot)
        self._predictor = predictor
        self._key = SealKey(secrets[0], PURPOSE)
        self._outbox = Outbox(sender, wall_clock)
        self._others = Others(predictor, sender, known.__contains__, wall_clock, predicting.learn)
        predictor.journal = self._outbox
        predicting.pass_on(self._stranger)
        self._forged = 0
        self._needed = asyncio.Event()
        target = target_of(redis.url, redis.password_file, redis.ca_file)
        self._feed = RedisFeed(target, f"{{{redis.prefix}}}:placements", self)

    def start(self) -> None:
        """A strategy needs predictions from now on."""
        self._needed.set()

    def use_secrets(self, secrets: Sequence[bytes]) -> None:
        """The first secret counts alone, as the hashes of prompts are made with it: others would not match."""
        self._key = SealKey(secrets[0], PURPOSE)

    @property
    def degraded(self) -> bool:
        """Whether nothing is shared though it should be."""
        return self._needed.is_set() and self._feed.is_away

    async def run(self) -> None:
        """Share until cancelled, from when the fleet is known: of engines that are not in it nothing is kept."""
        await self._needed.wait()
        await self._store.wait_known()
        await self._feed.run()

    def _stranger(self, request_id: str, usage: Usage | None, after_head: float | None, streamed: bool) -> None:
        self._outbox.charged(request_id, usage, after_head, streamed=streamed)

    def take(self) -> list[bytes]:
        """Part of Reader."""
        now = self._clock()
        self._others.sweep(now)
        return [self._key.seal(bulletin) for bulletin in self._outbox.take(now)]

    def deliver(self, entry: bytes, *, is_history: bool) -> None:
        """Part of Reader."""
        bulletin = self._key.open(entry)
        if bulletin is None:
            self._forged += 1
        else:
            self._others.take(bulletin, self._clock(), is_history=is_history)

    def recall(self, note: bytes) -> None:
        """Part of Reader: speeds and the like, as another process has learned them."""
        data = self._key.open(note)
        if data is None:
            self._forged += 1
        else:
            remember(self._predictor, data)

    def note(self) -> bytes:
        """Part of Reader."""
        return self._key.seal(learned(self._predictor))

    def connected(self) -> None:
        """Part of Reader."""
        self._outbox.is_open = True

    def lost(self) -> None:
        """Part of Reader."""
        self._outbox.drop()
        self._others.lost(self._clock())

    def report(self) -> Mapping[str, object]:
        """Whether gateways share, how many others there are, and how much was told."""
        if not self._needed.is_set():
            return {"needed": False}
        found: dict[str, object] = {"away": self._feed.is_away, "gateways": len(self._others)}
        if self._feed.is_away:
            found["reason"] = self._feed.why_away
        return found | dict(self._placements()) | {"refused": dict(self._refused())}

    def register(self, metrics: Meters) -> None:
        """The same as metrics."""
        metrics.gauge("aibrix_extproc_sharing_ok", lambda: not self.degraded)
        metrics.gauge("aibrix_extproc_sharing_gateways", lambda: len(self._others))
        metrics.gauges("aibrix_extproc_sharing_placements", self._placements)
        metrics.gauges("aibrix_extproc_sharing_refused", self._refused)

    def _placements(self) -> list[tuple[str, float]]:
        outbox = self._outbox
        return [("sent", outbox.sent), ("received", self._others.received), ("dropped", outbox.dropped)]

    def _refused(self) -> list[tuple[str, float]]:
        return [(_FORGED, self._forged), *self._others.refused.items()]
