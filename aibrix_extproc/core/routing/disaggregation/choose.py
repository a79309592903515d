"""The prefill engine for a request whose decode engine is chosen, and whether it is worth one.

A prompt of which the decode engine lacks few tokens is computed there: the way over another engine, the wait in its
queue and the transfer of the KV cache take longer than that, and decode steps hardly suffer from it. A longer one is
computed there if the prefill engines are so busy that this is better even with the delay of the answers that it makes:

    remote seconds > local seconds + HARM x requests that it answers x seconds that it computes on the prompt
"""

from heapq import nsmallest
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.disaggregation.handover import Handover, PrefillOutcome
from aibrix_extproc.core.routing.pool import Pool, PrefillPool
from aibrix_extproc.core.routing.predictor import Predictor

HARM: Final = 0.25  # what a second by which another answer is delayed counts (simulated: docs/disaggregation.md)
TRANSFER_SECONDS: Final = 0.005  # of any transfer
TRANSFER_TOKEN_SECONDS: Final = 5e-6  # of each token: 128 KB of KV cache at 25 GB/s
MAX_ATTEMPTS: Final = 3  # prefill engines that are asked, one after the other


def handover(
    query: RouteQuery, decode: Endpoint, prefill: PrefillPool, predictor: Predictor, now: float, in_flight: int
) -> Handover:
    """Who computes the prompt of a request that `decode` answers, as one of so many."""
    (uncached,) = uncached_tokens(query, Pool((decode,)), predictor)
    if uncached <= prefill.most_local_tokens:
        return Handover(outcome=PrefillOutcome.SHORT, uncached_tokens=uncached)
    engines = prefill.endpoints
    suited = [place for place, one in enumerate(engines) if one.role_set == decode.role_set]
    if not suited:
        return Handover(outcome=PrefillOutcome.NONE_READY, uncached_tokens=uncached)
    costs, delays = predictor.costs(query, Pool(engines, prefill.key), now)
    order = nsmallest(MAX_ATTEMPTS, suited, key=costs.__getitem__)
    first = order[0]
    local = predictor.costs(query, Pool((decode,)), now)[0][0] + harm(uncached, decode, in_flight, predictor)
    if local < costs[first] + until_decode(decode, predictor, now):
        return Handover(outcome=PrefillOutcome.OVERFLOW, uncached_tokens=uncached)
    cached = None
    if query.prefix is not None:
        ratio = predictor.ratios.ratio(query.model)
        cached = predictor.index.cached(query.prefix).of(engines[first].identity) * ratio
    return Handover(
        tuple(engines[place] for place in order),
        PrefillOutcome.REMOTE,
        costs[first] - delays.get(first, 0.0),
        cached,
        uncached,
    )


def harm(uncached: float, decode: Endpoint, in_flight: int, predictor: Predictor) -> float:
    """What it costs the answers of a decode engine, in seconds, that it computes so many tokens of a prompt."""
    return HARM * in_flight * uncached / predictor.speed(decode.identity)


def until_decode(decode: Endpoint, predictor: Predictor, now: float) -> float:
    """Seconds until a decode engine can go on with a prompt that it takes over."""
    return predictor.wait(decode.identity, now) + predictor.avoided(decode.identity, now)


def transfer_seconds(uncached: float) -> float:
    """Seconds that a decode engine takes to read what it does not have of a prompt."""
    return TRANSFER_SECONDS + TRANSFER_TOKEN_SECONDS * uncached


def uncached_tokens(query: RouteQuery, pool: Pool, predictor: Predictor) -> list[float]:
    """Tokens of the prompt that each endpoint probably does not have in its cache."""
    engines = predictor.engines_of(pool, query.model)
    ratio = predictor.ratios.ratio(query.model)
    tokens = query.prompt_bytes * ratio
    cached = None
    if query.prefix is not None:
        cached = predictor.index.cached(query.prefix).by_slot(predictor.index.slots)
    if cached is None:
        return [tokens] * len(engines)
    return [tokens - cached[one.slot] * ratio * one.confidence for one in engines]
