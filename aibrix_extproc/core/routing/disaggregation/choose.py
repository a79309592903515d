"""The prefill engine for a request whose decode engine is chosen, and whether it is worth one.

A prompt of which the decode engine lacks few tokens is computed there: the way over another engine, the wait in its
queue and the transfer of the KV cache take longer than that, and decode steps hardly suffer from it.
"""

from collections.abc import Sequence
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.disaggregation.handover import Handover, PrefillOutcome
from aibrix_extproc.core.routing.pool import Pool, PrefillPool
from aibrix_extproc.core.routing.predictor import Predictor

MAX_ATTEMPTS: Final = 3  # prefill engines that are asked, one after the other


def handover(query: RouteQuery, decode: Endpoint, prefill: PrefillPool, predictor: Predictor, now: float) -> Handover:
    """Who computes the prompt of a request that `decode` answers."""
    (uncached,) = uncached_tokens(query, (decode,), predictor)
    if uncached <= prefill.most_local_tokens:
        return Handover(outcome=PrefillOutcome.SHORT, uncached_tokens=uncached)
    engines = tuple(one for one in prefill.endpoints if one.role_set == decode.role_set)
    if not engines:
        return Handover(outcome=PrefillOutcome.NONE_READY, uncached_tokens=uncached)
    pool = Pool(engines)
    costs, delays = predictor.costs(query, pool, now)
    order = sorted(range(len(engines)), key=costs.__getitem__)
    first = order[0]
    cached = None
    if query.prefix is not None:
        ratio = predictor.ratios.ratio(query.model)
        cached = predictor.index.cached(query.prefix).of(engines[first].identity) * ratio
    return Handover(
        tuple(engines[place] for place in order[:MAX_ATTEMPTS]),
        PrefillOutcome.REMOTE,
        costs[first] - delays.get(first, 0.0),
        cached,
        uncached,
    )


def uncached_tokens(query: RouteQuery, endpoints: Sequence[Endpoint], predictor: Predictor) -> list[float]:
    """Tokens of the prompt that each endpoint probably does not have in its cache."""
    model = query.model
    ratio = predictor.ratios.ratio(model)
    tokens = query.prompt_bytes * ratio
    if query.prefix is None:
        return [tokens] * len(endpoints)
    cached = predictor.index.cached(query.prefix)
    return [
        tokens - cached.of(one.identity) * ratio * predictor.engine(one.identity, one.base_model or model).confidence
        for one in endpoints
    ]
