"""Predicts the time to the first token of a request at each endpoint, and learns from how requests went.

predicted = wait + uncached tokens * pace + requests in flight * share of a decode step + time to avoid it
cost = predicted + what others wait longer (`delays.py`)
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.gauges import EngineGauges
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.estimates import MAX_MODELS, InputRatios
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.delays import add_delays, without_delays
from aibrix_extproc.core.routing.engine import Arrivals, Engine, Flight
from aibrix_extproc.core.routing.journal import Journal
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.prefix.audit import Audit
from aibrix_extproc.core.routing.prefix.index import DEFAULT_CACHE_BYTES, PrefixIndex
from aibrix_extproc.core.routing.speeds import FIRST_SPEED, MAX_GROUPS, Speeds
from aibrix_extproc.core.routing.work import WorkBook

MAX_ENDED: Final = 8_192  # requests whose charges may still come
_FIRST_OUTPUT: Final = 200.0  # tokens of an answer, until one is known
_OUTPUT_WEIGHT: Final = 0.02  # of a new answer
_PATIENCE: Final = 4.0  # times as long as an answer takes on average
_PATIENT_SECONDS: Final = 2.0
_STEP_SHARE: Final = 1 / 32  # of a decode step that each running request adds to the time of a prompt
_MANY_TOKENS: Final = 1_000_000  # of prompts, after which the hit rate is half a new one
_ALIKE: Final = 1.05  # times the least prediction
_ALIKE_SECONDS: Final = 0.002
_FIRST_AVOIDED: Final = 0.5  # seconds after a failure; twice as long after each further one
_LONGEST_AVOIDED: Final = 30.0


def alike(least: float) -> float:
    """Predictions up to this one are equal to the least."""
    return least * _ALIKE + _ALIKE_SECONDS


class Ending(Enum):
    """How an exchange ended, as far as its engine is concerned."""

    SERVED = "served"
    LEFT = "left"  # the client went away: nothing is known
    REFUSED = "refused"  # by the engine, which has computed nothing
    FAILED = "failed"  # through the engine's fault


class _Request(msgspec.Struct, gc=False):
    """A request from its placement to its charge. Thousands are kept, which the garbage collector need not look at."""

    query: RouteQuery
    flight: Flight
    cached: float  # tokens that the index predicted, before confidence
    shadowed: "_Request | None"  # an earlier request with the same id, which clients may choose
    transferred: bool  # its engine takes the prompt's KV cache over, and computes nothing of it
    head_at: float | None = None  # when the head of the answer came


class Predictor:
    """One for a process, of all its models.

    It is driven by plain calls with the time of one monotonic clock: in the gateway by facts and charges, in a replay
    by the simulation. Of a model of which nothing can be learned, as no access log reports what answers cost, all
    tokens in flight count as work that waits.
    """

    def __init__(self, index: PrefixIndex | None = None) -> None:
        self.index = PrefixIndex() if index is None else index
        self.audit = Audit()
        self.speeds = Speeds()
        self.work = WorkBook(self.speeds)
        self.ratios = InputRatios()
        self._engines: dict[str, Engine] = {}
        self._arrivals: dict[str, Arrivals] = {}  # by group
        self._pools: dict[str, tuple[tuple[Endpoint, ...], list[Engine]]] = {}  # by key, the engines of the endpoints
        self._requests: dict[str, _Request] = {}
        self._ended: OrderedDict[str, _Request] = OrderedDict()
        self._failures: dict[str, tuple[int, float]] = {}  # identity -> how many in a row, and until when it is avoided
        self._hit_rate = 0.0  # cached tokens of all prompt tokens, lately
        self._outputs: dict[str, float] = {}  # tokens of an answer, by model
        self._cache_tokens: dict[str, float] = {}
        self.journal: Journal | None = None

    def engine(self, identity: str, group: str) -> Engine:
        """What is believed of an engine; `group` is its base model."""
        engine = self._engines.get(identity)
        if engine is None:
            arrivals = self._arrivals.get(group)
            if arrivals is None and len(self._arrivals) < MAX_GROUPS:
                arrivals = self._arrivals[group] = Arrivals()
            slot = self.index.slot(identity)
            engine = self._engines[identity] = Engine(identity, group, slot, 1.0 / FIRST_SPEED, arrivals)
            self.speeds.seen(engine)
        return engine

    def first_token_seconds(self, query: RouteQuery, pool: Pool, now: float) -> list[float]:
        """Predicted seconds to the first token at each endpoint of the pool, in its order."""
        return without_delays(*self.costs(query, pool, now))

    def costs(self, query: RouteQuery, pool: Pool, now: float) -> tuple[list[float], dict[int, float]]:
        """What a request costs at each endpoint, in the order of the pool; by place the part that others bear.

        The rest are the predicted seconds to the first token.
        """
        model = query.model
        engines = self.engines_of(pool, model)
        own = self._own_seconds(query, engines)
        group = engines[0].group
        share = self.speeds.middle_step(group) * _STEP_SHARE
        delays = dict[int, float]()
        if not self.speeds.is_known(group):
            costs = [
                one + engine.tokens * engine.pace + engine.running * share
                for one, engine in zip(own, engines, strict=True)
            ]
        else:
            costs = [one + engine.running * share for one, engine in zip(own, engines, strict=True)]
            delays = add_delays(costs, own, engines, self.work, self._hit_rate, now)
        self._avoid(engines, costs, model, now)
        return costs, delays

    def _own_seconds(self, query: RouteQuery, engines: Sequence[Engine]) -> list[float]:
        """Seconds that each engine computes on what it does not have of the prompt."""
        ratio = self.ratios.ratio(query.model)
        tokens = query.prompt_bytes * ratio + 1.0  # the last token is always computed
        if query.prefix is not None:
            cached = self.index.cached(query.prefix).by_slot(self.index.slots)
            if cached is not None:
                return [(tokens - cached[one.slot] * ratio * one.confidence) * one.pace for one in engines]
        return [tokens * one.pace for one in engines]

    def _avoid(self, engines: Sequence[Engine], seconds: list[float], model: str, now: float) -> None:
        """Count the time for which engines that fail or do nothing are avoided."""
        if self._failures:
            for place, one in enumerate(engines):
                seconds[place] += self.avoided(one.identity, now)
        patience, checked = self._patience(model, engines[0].group), 0
        while True:  # only those are checked that would be chosen
            most, late = alike(min(seconds)), False
            for place, before in enumerate(seconds):
                one = engines[place]
                if before <= most and now - one.sign_at > patience and one.running and not checked >> place & 1:
                    checked |= 1 << place
                    seconds[place] += self.work.overdue(one, now, patience)
                    late = late or seconds[place] > most
            if not late:
                return

    def engines_of(self, pool: Pool, model: str) -> Sequence[Engine]:
        """The engines of a pool, in its order, with all that is believed of them."""
        known = self._pools.get(pool.key)
        if known is not None and known[0] is pool.endpoints:
            return known[1]
        engines = [self.engine(one.identity, one.base_model or model) for one in pool.endpoints]
        if pool.key:
            if len(self._pools) >= MAX_MODELS:
                self._pools.clear()
            self._pools[pool.key] = pool.endpoints, engines
        return engines

    def _patience(self, model: str, group: str) -> float:
        """Seconds after which an engine that has shown no sign of life is overdue."""
        return _PATIENT_SECONDS + _PATIENCE * self._outputs.get(model, _FIRST_OUTPUT) * self.speeds.middle_step(group)

    def wait(self, identity: str, now: float) -> float:
        """Seconds until an engine can begin with another prompt."""
        engine = self._engines.get(identity)
        return 0.0 if engine is None else max(engine.free_at - now, 0.0)

    def speed(self, identity: str) -> float:
        """Tokens of a prompt that an engine computes in a second."""
        engine = self._engines.get(identity)
        return FIRST_SPEED if engine is None else 1.0 / engine.pace

    def avoided(self, identity: str, now: float) -> float:
        """For how many seconds more an endpoint is avoided because it failed."""
        failed = self._failures.get(identity)
        return 0.0 if failed is None else max(failed[1] - now, 0.0)

    def placed(
        self, request_id: str, query: RouteQuery, identity: str, now: float, *, transferred: bool = False
    ) -> None:
        """A request goes to an endpoint. `transferred`: it takes the prompt's KV cache over from another one."""
        ratio = self.ratios.ratio(query.model)
        cached, change = 0.0, None
        if query.prefix is not None:
            cached = self.index.cached(query.prefix).of(identity) * ratio
            change = self.index.placed(identity, query.prefix)
        engine = self.engine(identity, query.model)
        engine.is_full = self.index.is_full(identity)
        tokens = 1.0 if transferred else max(query.prompt_bytes * ratio - cached * engine.confidence, 1.0)
        flight = self.work.placed(engine, tokens, now)
        flight.change = change
        shadowed = self._requests.get(request_id)
        self._requests[request_id] = _Request(query, flight, cached, shadowed, transferred)
        if self.journal is not None:
            self.journal.placed(flight, query.prefix)

    def moved(self, request_id: str, identity: str, now: float) -> None:
        """Another endpoint has the request, as the one that it was placed at failed."""
        request = self._take(request_id)
        if request is not None:
            self._end(request.flight, now, Ending.FAILED)
            self.placed(request_id, request.query, identity, now)

    def first_token(self, request_id: str, at: float) -> None:
        """The first token of the answer came at this time, of which we may hear later."""
        request = self._requests.get(request_id) or self._ended.get(request_id)
        if request is not None:
            self.work.first_token(request.flight, at)

    def finished(self, request_id: str, now: float, ending: Ending | None = None, head_at: float | None = None) -> None:
        """The exchange is over. `head_at`: when the head of its answer came."""
        request = self._take(request_id)
        if request is None:
            return
        ending = Ending.SERVED if ending is None else ending
        self._end(request.flight, now, ending)
        if ending is Ending.FAILED or ending is Ending.REFUSED:
            return
        request.head_at = head_at
        self._ended[request_id] = request
        if len(self._ended) > MAX_ENDED:
            self.work.gone(self._ended.popitem(last=False)[1].flight)

    def charged(
        self, request_id: str, usage: Usage | None, first_token_at: float | None = None,
        *, after_head: float | None = None, streamed: bool = True,
    ) -> float | None:  # fmt: skip
        """The access log told what a request cost, after its end; and perhaps when its first token came.

        `after_head`: seconds from the head of the answer to its first token, as the stream filter saw it. Returns by
        how many seconds the first token came later than predicted, None if it is not known.
        """
        request = self._ended.pop(request_id, None)
        if request is None:
            return None
        flight = request.flight
        if usage is not None and usage.input_tokens > 0:
            self._check(request, usage)
        if first_token_at is None and request.head_at is not None:
            output = 0 if usage is None else usage.output_tokens
            first_token_at = self._first_token_at(flight, request.head_at, after_head, output, streamed=streamed)
        if first_token_at is not None:
            self.work.first_token(flight, first_token_at)
            if usage is not None and streamed and flight.ended_at is not None:
                seconds = flight.ended_at - first_token_at
                self.speeds.decoded(flight.engine, usage.output_tokens - 1, seconds)
        self.work.gone(flight)
        if self.journal is not None:
            self.journal.computed(flight)
        return None if first_token_at is None else first_token_at - flight.would_be_done_at

    def expects(self, request_id: str) -> bool:
        """Whether a request of this id is in flight here, or was lately."""
        return request_id in self._ended or request_id in self._requests

    def _check(self, request: _Request, usage: Usage) -> None:
        """Compare what was believed of a request with what the engine reports of it."""
        flight, query, model = request.flight, request.query, request.query.model
        self.ratios.learn(model, query.prompt_bytes, usage.input_tokens)
        if request.transferred:
            self._learn_output(model, usage)
            return  # what it reports as cached are tokens of the prefill engine's cache, or those that it took over
        cached = min(max(usage.cached_tokens, 0), usage.input_tokens)
        flight.tokens = max(usage.input_tokens - cached, 1)
        weight = usage.input_tokens / (usage.input_tokens + _MANY_TOKENS)
        self._hit_rate += weight * (cached / usage.input_tokens - self._hit_rate)
        self._learn_output(model, usage)
        if query.prefix is None:
            return
        identity = flight.engine.identity
        factor = self.audit.factor(identity)
        if self.audit.report(identity, model, request.cached, cached, finds=flight.engine.finds):
            self.index.clear(identity)
            self.audit.lost(identity)
            flight.engine.is_full = False
        flight.engine.confidence = self.audit.confidence(identity)
        if self.audit.factor(identity) != factor:
            size = self._cache_tokens.get(identity)
            size = DEFAULT_CACHE_BYTES if size is None else size / self.ratios.ratio(model)
            self.index.limit(identity, size * self.audit.factor(identity))

    def _learn_output(self, model: str, usage: Usage) -> None:
        if usage.output_tokens > 0 and (model in self._outputs or len(self._outputs) < MAX_MODELS):
            known = self._outputs.get(model, _FIRST_OUTPUT)
            self._outputs[model] = known + _OUTPUT_WEIGHT * (min(usage.output_tokens, 100_000) - known)

    def _first_token_at(
        self, flight: Flight, head_at: float, after_head: float | None, output: int, *, streamed: bool
    ) -> float | None:
        """When the first token came; of a whole answer it is estimated, unless nearly all of its time was decoding."""
        if streamed:
            return None if after_head is None else head_at + after_head
        decoding = max(output - 1, 0) * self.speeds.step(flight.engine)
        return head_at - decoding if decoding <= (head_at - flight.placed_at) / 2 else None

    def read(self, identity: str, reading: EngineGauges) -> None:
        """What an engine said of itself; not kept of one that never got a request."""
        engine = self._engines.get(identity)
        if engine is not None:
            engine.waiting, engine.read_at = reading.waiting or 0.0, reading.at
            engine.finds = bool(reading.cache_hits)
            self.work.read(engine, reading)

    def cache_size(self, identity: str, tokens: float, model: str) -> None:
        """An engine reported how many tokens its prefix cache holds."""
        self._cache_tokens[identity] = tokens
        self.index.limit(identity, tokens / self.ratios.ratio(model) * self.audit.factor(identity))

    @property
    def outputs(self) -> Mapping[str, float]:
        """Tokens of an answer, by model."""
        return self._outputs

    def remember_output(self, model: str, tokens: float) -> None:
        """What another process has learned of a model's answers, if nothing is known here."""
        if len(self._outputs) < MAX_MODELS:
            self._outputs.setdefault(model, tokens)

    def cleared(self, identity: str) -> None:
        """The engine's prefix cache is empty: a reset, new weights, or sleep at level 2."""
        self.index.clear(identity)
        self.audit.forget(identity)
        if identity in self._engines:
            self._engines[identity].confidence = 1.0
            self._engines[identity].is_full = False

    def forget(self, identity: str) -> None:
        """The endpoint is gone."""
        for book in (self.index, self.audit, self.speeds):
            book.forget(identity)
        self._engines.pop(identity, None)
        self._failures.pop(identity, None)
        self._cache_tokens.pop(identity, None)

    def end(self, flight: Flight, now: float, *, served: bool, refused: bool = False) -> None:
        """A flight is over. A prompt that was refused, or not computed by then, leaves the prefix index as it was."""
        change, flight.change = flight.change, None
        if change is not None and (refused or (not served and flight.done_at > now)):
            self.index.take_back(flight.engine.identity, change)
        self.work.ended(flight, now, served=served)

    def _end(self, flight: Flight, now: float, ending: Ending) -> None:
        served = ending is Ending.SERVED
        self.end(flight, now, served=served, refused=ending is Ending.REFUSED)
        if self.journal is not None:
            self.journal.ended(flight, now, served=served)
        if ending is Ending.FAILED or ending is Ending.REFUSED:
            self.work.gone(flight)
        if ending is Ending.FAILED:
            times = self._failures.get(flight.engine.identity, (0, 0.0))[0] + 1
            seconds = min(_FIRST_AVOIDED * 2.0 ** min(times - 1, 10), _LONGEST_AVOIDED)
            self._failures[flight.engine.identity] = times, now + seconds
        elif ending is Ending.SERVED:
            self._failures.pop(flight.engine.identity, None)

    def _take(self, request_id: str) -> _Request | None:
        request = self._requests.pop(request_id, None)
        if request is not None and request.shadowed is not None:
            self._requests[request_id] = request.shadowed
        return request
