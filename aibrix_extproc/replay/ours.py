"""The strategies of this project at work: the very objects that a gateway makes, driven by plain calls.

A gateway sees of an answer what Envoy tells it: that the exchange has ended, and a little later its entry of the access
log with the usage and the time of the first byte.
"""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.choose import Choosers
from aibrix_extproc.core.routing.mix import Mix
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.sharing.others import Others
from aibrix_extproc.core.routing.sharing.outbox import Outbox
from aibrix_extproc.core.routing.signals import Need, SignalSources
from aibrix_extproc.replay.engine_model import EngineModel, Visit
from aibrix_extproc.replay.trace import MODEL, Request

TOKEN_BYTES: Final = 4  # of text
SCRAPE_SECONDS: Final = 0.2  # age at which gauges of engines are read again, as of busy ones


_LAST_BLOCKS: Final = 1 << 63  # what nobody shares has ids from here on


class Network:
    """Brings what gateways tell each other, so many seconds later. `None`: they tell nothing."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._inboxes: list[deque[tuple[float, bytes]]] = []

    def join(self) -> deque[tuple[float, bytes]]:
        """A gateway's inbox: times and bulletins."""
        inbox: deque[tuple[float, bytes]] = deque()
        self._inboxes.append(inbox)
        return inbox

    def send(self, sender: deque[tuple[float, bytes]], bulletins: Sequence[bytes], now: float) -> None:
        """To all others."""
        if self.seconds is not None:
            for inbox in self._inboxes:
                if inbox is not sender:
                    inbox += [(now + self.seconds, bulletin) for bulletin in bulletins]


class OurRouter:
    """A mix of strategies of the registry in a gateway of its own."""

    def __init__(self, mix: Mix, network: Network, engines: Sequence[EngineModel], seed: int) -> None:
        self._load = LoadBook()
        self._now = 0.0
        self._predictor = Predictor()
        self._sources = SignalSources(self._load, Random(seed).random, lambda: self._now, self._predictor)
        self._endpoints = tuple(
            Endpoint(
                f"engine-{number:04d}",
                f"10.0.{number >> 8}.{number & 255}:8000",
                health=Health.READY,
                models=(ServedModel(MODEL),),
            )
            for number in range(len(engines))
        )
        self._pool = tuple(one for one, engine in zip(self._endpoints, engines, strict=True) if not engine.joins_at)
        self._joins = sorted({engine.joins_at for engine in engines if engine.joins_at}, reverse=True)
        self._numbers = {one.identity: number for number, one in enumerate(self._endpoints)}
        self._block_tokens = engines[0].block_tokens
        self._engines = engines
        self._read_at = [-SCRAPE_SECONDS] * len(engines)
        self._chooser = Choosers(self._sources).of(mix)
        self._learns = self._sources.needs(Need.WORK)
        self._scrapes = self._learns or self._sources.needs(Need.GAUGES)
        self._network, self._inbox = network, network.join()
        self._outbox = Outbox(seed, lambda: 0.0)
        self._others = Others(self._predictor, seed, lambda _: True, lambda: 0.0)
        if network.seconds is not None:
            self._predictor.journal = self._outbox
            self._outbox.is_open = True
        for one, engine in zip(self._endpoints, engines, strict=True):
            self._predictor.cache_size(one.identity, engine.capacity * engine.block_tokens, "")

    def place(self, number: int, request: Request, now: float) -> int:
        """The engine for a request."""
        self._now = now
        self._hear(now)
        if self._scrapes:
            self._scrape(now)
        session = request.session or f"alone-{number}"  # as the gateway gives each request without one a new one
        query = RouteQuery(
            request.model,
            body_bytes=request.prompt_tokens * TOKEN_BYTES,
            session=session,
            prefix=self._chain(number, request) if self._learns else None,
        )
        while self._joins and self._joins[-1] <= now:
            self._join(self._joins.pop())
        first = self._chooser.choose(query, Pool(self._pool, request.model), 1).first
        self._load.acquire(first.identity)
        if self._learns:
            self._predictor.placed(str(number), query, first.identity, now)
            self._tell(now)
        return self._numbers[first.identity]

    def _join(self, at: float) -> None:
        """The engines that join then are found."""
        self._pool = tuple(
            one for one, engine in zip(self._endpoints, self._engines, strict=True) if engine.joins_at <= at
        )

    def first_token(self, visit: Visit, engine: int, now: float) -> None:
        """A gateway does not see it: the stream passes through Envoy alone."""

    def finished(self, visit: Visit, engine: int, now: float) -> None:
        """The exchange has ended."""
        self._load.release(self._endpoints[engine].identity)
        if self._learns:
            self._predictor.finished(str(visit.number), now)
            self._tell(now)

    def charged(self, visit: Visit, engine: int, now: float) -> None:
        """The access log tells what it cost."""
        if not self._learns:
            return
        request = visit.request
        usage = Usage(
            request.prompt_tokens,
            request.output_tokens,
            request.prompt_tokens + request.output_tokens,
            visit.cached_tokens,
        )
        self._predictor.charged(str(visit.number), usage, visit.first_token)
        self._tell(now)

    def _tell(self, now: float) -> None:
        """A gateway collects for a moment; that is a part of the time that it takes."""
        self._network.send(self._inbox, self._outbox.take(now), now)

    def _hear(self, now: float) -> None:
        inbox = self._inbox
        while inbox and inbox[0][0] <= now:
            at, bulletin = inbox.popleft()
            self._others.take(bulletin, at)

    def _scrape(self, now: float) -> None:
        """Read the gauges that are too old."""
        for number, (engine, endpoint) in enumerate(zip(self._engines, self._endpoints, strict=True)):
            if now - self._read_at[number] >= SCRAPE_SECONDS:
                self._read_at[number] = now
                reading = EngineGauges(
                    at=now,
                    own=self._load.in_flight(endpoint.identity),
                    running=engine.running,
                    waiting=engine.waiting,
                    kv_usage=engine.cache_usage,
                    first_tokens=engine.first_tokens,
                )
                self._sources.gauges.take(endpoint.identity, reading)
                self._predictor.read(endpoint.identity, reading)

    def _chain(self, number: int, request: Request) -> PrefixChain:
        """As the gateway's, with one block for each of the trace's and one for the rest, which nobody shares."""
        size = self._block_tokens * TOKEN_BYTES
        ends = range(size, (len(request.blocks) + 1) * size, size)
        rest = request.prompt_tokens * TOKEN_BYTES
        if ends and ends[-1] == rest:
            return PrefixChain(request.blocks, tuple(ends))
        return PrefixChain((*request.blocks, _LAST_BLOCKS + number), (*ends, rest))
