"""Prefill/decode disaggregation in simulated time: what the rule for short prompts is worth, and roles at all.

Requests are placed by the gateway's own placement over engines with continuous batching (`aibrix_extproc/replay`). A
long prompt in a step delays the answers that share it. A prompt that another engine has computed arrives after the time
of its transfer and costs one token. Prints a table for docs/disaggregation.md:

    python -m tools.disaggregation [--requests 3000] [--seed 1]
"""

import argparse
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Final

from aibrix_extproc.core.exchange.asks import Place
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint, Health, ServedModel, snapshot_of
from aibrix_extproc.core.fleet.roles import EngineRole
from aibrix_extproc.core.openai.contract.operation_rows import OPERATIONS
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import ANYONE, RouteQuery
from aibrix_extproc.core.routing.disaggregation import choose
from aibrix_extproc.core.routing.owners import ResponseOwners
from aibrix_extproc.core.routing.place import Decision, Placer, Ranking
from aibrix_extproc.core.routing.signals import SignalSources
from aibrix_extproc.replay.engine_model import NEVER, BatchingEngine, EngineShape, Visit
from aibrix_extproc.replay.trace import MODEL, Request

BLOCK: Final = 64  # tokens
CHAT: Final = next(row for row in OPERATIONS if row.id == "chat_completion")
NEVER_REMOTE: Final = 1 << 40


class DecodeEngine(BatchingEngine):
    """An engine that may take the KV cache of a prompt over."""

    def __init__(self, shape: EngineShape) -> None:
        super().__init__(shape, BLOCK)
        self.taken_over: set[int] = set()

    def _admit(self) -> Visit:
        visit = super()._admit()
        if visit.number in self.taken_over:
            self.taken_over.remove(visit.number)
            visit.left = 1
        return visit


def workload(requests: int, rate: float, seed: int) -> list[Request]:
    """Conversations with long documents, and as many short questions."""
    draw, ids, found = Random(seed), count(), list[Request]()
    at = 0.0
    while len(found) < requests:
        at += draw.expovariate(rate)
        if draw.random() < 0.5:
            found.append(Request(at, draw.randint(30, 500), draw.randint(20, 400)))
            continue
        blocks: list[int] = []
        tokens, begins = int(draw.lognormvariate(8.3, 0.8)), at
        for _ in range(draw.randint(1, 6)):
            blocks += [next(ids) for _ in range(tokens // BLOCK - len(blocks))]
            output = draw.randint(50, 400)
            found.append(Request(begins, tokens, output, tuple(blocks)))
            begins += draw.uniform(5.0, 40.0)
            tokens += output + draw.randint(20, 300)
    return sorted(found, key=lambda one: one.at)[:requests]


@dataclass(slots=True)
class Result:
    """Of one request, in seconds."""

    first: float = 0.0
    each: float = 0.0  # token after the first
    remote: bool = False


class Run:
    """One fleet and one rule. Roles are in the order of the engines."""

    def __init__(self, roles: Sequence[EngineRole], local_tokens: int) -> None:
        self.engines = [DecodeEngine(EngineShape()) for _ in roles]
        self.endpoints = tuple(
            Endpoint(f"e{n:02}", f"10.0.0.{n}:80", models=(ServedModel(MODEL),), health=Health.READY, role=role)
            for n, role in enumerate(roles)
        )
        self.numbers = {one.identity: n for n, one in enumerate(self.endpoints)}
        self.now = 0.0
        self.load = LoadBook()
        self.sources = SignalSources(self.load, lambda: 0.5, lambda: self.now)
        ranking = Ranking("predicted", most_local_tokens=local_tokens)
        self.placer = Placer(self.sources, ResponseOwners([b"simulated"]), ranking, lambda: 1.0)
        self.fleet = snapshot_of(self.endpoints, version=1)
        self.events: list[tuple[float, int, str, object]] = []
        self.order = count()
        self.results: dict[int, Result] = {}
        self.requests: dict[int, tuple[Request, RouteQuery, Endpoint]] = {}

    def simulate(self, requests: Sequence[Request]) -> list[Result]:
        """What each request experienced."""
        for number, request in enumerate(requests):
            self._at(request.at, "arrive", (number, request))
        while self.events:
            self.now, _, kind, what = heappop(self.events)
            getattr(self, f"_{kind}")(what)
        return [self.results[number] for number in range(len(requests))]

    def _at(self, when: float, kind: str, what: object) -> None:
        heappush(self.events, (when, next(self.order), kind, what))

    def _arrive(self, what: tuple[int, Request]) -> None:
        number, request = what
        ends = tuple(range(BLOCK * 4, (len(request.blocks) + 1) * BLOCK * 4, BLOCK * 4))
        prefix = None
        if request.prompt_tokens >= 512:
            prefix = PrefixChain((*request.blocks, -number - 1), (*ends, request.prompt_tokens * 4))
        query = RouteQuery(MODEL, body_bytes=request.prompt_tokens * 4, prefix=prefix)
        decision = self.placer.place(Place(CHAT, query, None, ANYONE), self.fleet)
        assert isinstance(decision, Decision)
        decode = decision.placement.first
        self.results[number] = result = Result()
        self.requests[number] = request, query, decode
        self.load.acquire(decode.identity)
        handover = decision.handover
        if handover is not None and handover.engines:
            result.remote = True
            self._enter(
                handover.engines[0], f"{number}/prefill", query, Visit(number, request_of_prefill(request), 0.0)
            )
        else:
            self._enter(decode, str(number), query, Visit(number, request, 0.0))

    def _enter(
        self, endpoint: Endpoint, name: str, query: RouteQuery, visit: Visit, *, transferred: bool = False
    ) -> None:
        self.sources.predictor.placed(name, query, endpoint.identity, self.now, transferred=transferred)
        number = self.numbers[endpoint.identity]
        visit.arrived = self.now
        engine = self.engines[number]
        if transferred:
            engine.taken_over.add(visit.number)
        engine.arrive(visit)
        self._at(engine.due, "step", (number, engine.due))

    def _step(self, what: tuple[int, float]) -> None:
        number, due = what
        engine = self.engines[number]
        if engine.due != due:
            return
        for visit in engine.advance():
            if visit.first_token == self.now:
                self._first(visit, number)
            if visit.finished == self.now:
                self._end(visit, number)
        if engine.due != NEVER:
            self._at(engine.due, "step", (number, engine.due))

    def _is_prefill(self, visit: Visit) -> bool:
        return visit.request is not self.requests[visit.number][0]

    def _first(self, visit: Visit, _: int) -> None:
        if not self._is_prefill(visit):
            self.results[visit.number].first = self.now - self.requests[visit.number][0].at

    def _end(self, visit: Visit, _: int) -> None:
        request, _query, decode = self.requests[visit.number]
        predictor, is_prefill = self.sources.predictor, self._is_prefill(visit)
        name = f"{visit.number}/prefill" if is_prefill else str(visit.number)
        predictor.finished(name, self.now)
        output = 0 if is_prefill else request.output_tokens
        usage = Usage(request.prompt_tokens, output, request.prompt_tokens + output, visit.cached_tokens)
        predictor.charged(name, usage, visit.first_token)
        if is_prefill:
            seconds = choose.transfer_seconds(request.prompt_tokens)
            self._at(self.now + seconds, "decode", visit.number)
            return
        self.load.release(decode.identity)
        if request.output_tokens > 1:
            self.results[visit.number].each = (visit.finished - visit.first_token) / (request.output_tokens - 1)

    def _decode(self, number: int) -> None:
        request, query, decode = self.requests[number]
        self._enter(decode, str(number), query, Visit(number, request, 0.0), transferred=True)


def request_of_prefill(request: Request) -> Request:
    """What a prefill engine gets of it."""
    return Request(request.at, request.prompt_tokens, 1, request.blocks)


def rows(requests: Sequence[Request]) -> Iterator[tuple[str, list[Result]]]:
    """Each fleet and rule with its results."""
    both, prefill, decode = EngineRole.BOTH, EngineRole.PREFILL, EngineRole.DECODE
    split = [prefill] * 4 + [decode] * 4
    yield "8 engines without roles", Run([both] * 8, 0).simulate(requests)
    yield "4 prefill, 4 decode: every prompt remote", _without_overflow(split, -1, requests)
    yield "up to 256 tokens local", _without_overflow(split, 256, requests)
    for tokens in (64, 256, 1024):
        yield f"up to {tokens} tokens local, and overflow", Run(split, tokens).simulate(requests)


def _without_overflow(roles: Sequence[EngineRole], local_tokens: int, requests: Sequence[Request]) -> list[Result]:
    kept, choose.HARM = choose.HARM, 1e9  # type: ignore[misc]
    try:
        return Run(roles, local_tokens).simulate(requests)
    finally:
        choose.HARM = kept  # type: ignore[misc]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=9.0, help="conversations and questions per second")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    requests = workload(args.requests, args.rate, args.seed)
    print("| | remote | first token p50, p95 | a further token p50, p95, p99 |\n| --- | --- | --- | --- |")
    for name, results in rows(requests):
        first = statistics.quantiles([one.first for one in results], n=100)
        each = statistics.quantiles([one.each * 1000 for one in results if one.each], n=100)
        share = sum(one.remote for one in results) / len(results)
        print(
            f"| {name} | {share:.0%} | {first[49]:.2f}, {first[94]:.2f} s | {each[49]:.1f}, {each[94]:.1f}, "
            f"{each[98]:.1f} ms |"
        )


if __name__ == "__main__":
    main()
