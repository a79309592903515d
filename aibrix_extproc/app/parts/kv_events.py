"""Follows the cache events of engines, so that the prefix index knows what they have and not only what we sent them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aibrix_extproc.adapters.engine.client import EngineClient, engine_session
from aibrix_extproc.adapters.engine.errors import EngineError
from aibrix_extproc.adapters.kvevents.stream import Context, KVEventStream
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.part import Meters, Part
from aibrix_extproc.core.exchange.outputs import Assigned
from aibrix_extproc.core.fleet.model import Endpoint, Health
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.prefix.residency import Residency
from aibrix_extproc.core.routing.prefix.sources import EventSource, read_source

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 60.0  # between two questions to an engine that publishes nothing
ANSWER_SECONDS: Final = 2.0
SOURCES_ROUTE: Final = "/kv_event_sources"


class KVEvents(Part):
    """One stream for each engine that publishes events; runs once a strategy needs prefixes."""

    name = "kv_events"

    def __init__(self, store: FleetStore, predictor: Predictor) -> None:
        self._store = store
        self._predictor = predictor
        self._needed = asyncio.Event()
        self._changed = asyncio.Event()
        self._followed: dict[str, Residency] = {}
        self._count_gap: Callable[[], None] = lambda: None
        store.subscribe(lambda _: self._changed.set())

    def start(self) -> None:
        """Follow from now on."""
        self._needed.set()

    def assigned(self, fact: Assigned) -> None:
        """A request goes to an engine: its events will name the request's id."""
        residency = self._followed.get(fact.identity)
        if residency is not None and fact.query is not None and fact.query.prefix is not None:
            tokens_per_byte = self._predictor.ratios.ratio(fact.query.model)
            residency.placed(fact.request_id, fact.query.prefix, 1.0 / tokens_per_byte)

    async def run(self) -> None:
        """Follow the engines that may be picked, until cancelled."""
        await self._needed.wait()
        tasks: dict[str, asyncio.Task[None]] = {}
        context = Context()
        try:
            async with engine_session() as session, asyncio.TaskGroup() as group:
                while True:
                    self._changed.clear()
                    ready = {one.identity: one for one in self._ready()}
                    for identity in tasks.keys() - ready.keys():
                        tasks.pop(identity).cancel()
                        self._followed.pop(identity, None)
                    for identity, endpoint in ready.items():
                        if identity not in tasks:
                            client = EngineClient(session, endpoint.address, endpoint.api_key, ANSWER_SECONDS)
                            task = group.create_task(self._follow(context, client, endpoint))
                            tasks[identity] = task
                    await self._changed.wait()
        finally:
            context.destroy(linger=0)

    def _ready(self) -> Iterable[Endpoint]:
        return (one for one in self._store.snapshot.endpoints if one.health in (Health.READY, Health.SILENT))

    async def _follow(self, context: Context, client: EngineClient, endpoint: Endpoint) -> None:
        source = await self._source(client, endpoint)
        while source is None:  # nobody tells when an engine begins to publish
            await asyncio.sleep(ASK_SECONDS)
            source = await self._source(client, endpoint)
        residency = Residency(self._predictor.index, endpoint.identity)
        self._followed[endpoint.identity] = residency
        logger.info("following the cache events of an engine", extra={"endpoint": endpoint.identity})
        await KVEventStream(context, source.address, source.replay, residency, self._lost).run()

    async def _source(self, client: EngineClient, endpoint: Endpoint) -> EventSource | None:
        try:
            answer = await client.read_text(SOURCES_ROUTE)
        except EngineError:
            return None
        return read_source(answer, endpoint.address.rpartition(":")[0])

    def _lost(self) -> None:
        self._count_gap()

    def report(self) -> Mapping[str, object] | None:
        """The number of engines that are followed."""
        return {"ok": True, "followed": len(self._followed)} if self._needed.is_set() else None

    def register(self, metrics: Meters) -> None:
        """Engines that are followed, and gaps."""
        metrics.gauge("aibrix_extproc_kv_event_engines", lambda: len(self._followed))
        self._count_gap = metrics.counter("aibrix_extproc_kv_event_gaps_total")
