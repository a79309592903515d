"""Measures what `predicted` costs: `python -m benchmarks.predictions` prints a table of figures and their goals.

All in one thread without a network. Times are the shortest of many, taken in turns with what they are compared with, so
that other work on the machine disturbs them little; memory is counted.
"""

import asyncio
import itertools
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from aibrix_extproc.core.access.seals import SealKey
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.request import RequestFacts, read_json
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.prefix.index import PrefixIndex
from aibrix_extproc.core.routing.scorers.predicted import Predicted
from aibrix_extproc.core.routing.sharing.others import Others
from aibrix_extproc.core.routing.sharing.outbox import Outbox
from aibrix_extproc.core.routing.signals import Signals
from benchmarks.inside import CALLS, Bench
from benchmarks.report import table
from benchmarks.wire import chat_body

ROUNDS: Final = 400
SEAL_BYTES: Final = 24
_TOGETHER: Final = 20  # requests
MODEL: Final = "m"
_SEED: Final = 0x9E3779B97F4A7C15
# CPU of the whole ext_proc process for a 1 KB chat at 32 clients, in units of the exchange that is measured here:
# sockets and HTTP/2 come on top of it (docs/benchmarks.md, "Where the microseconds go").
WHOLE_EXCHANGE: Final = 1.5

Row = tuple[str, str, str]


def shortest(*runs: Callable[[], object], calls: int = 1, rounds: int = ROUNDS) -> list[float]:
    """Microseconds of each call, the best of many rounds in which all take their turns."""
    best = [float("inf")] * len(runs)
    for _ in range(rounds):
        for place, run in enumerate(runs):
            started = time.perf_counter()
            for _ in range(calls):
                run()
            best[place] = min(best[place], (time.perf_counter() - started) / calls)
    return [one * 1e6 for one in best]


def body_of(size: int, messages: int) -> bytes:
    """A chat of so many bytes, of random words."""
    rng = random.Random(size)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(2000)]
    text = " ".join(rng.choices(words, k=size // 3))
    part = size // messages
    said = [{"role": "user", "content": text[at * part : (at + 1) * part]} for at in range(messages)]
    return json.dumps({"model": MODEL, "messages": said}).encode()


def prefix_of(body: bytes) -> PrefixChain:
    """The chain of a body."""
    facts = read_json(body, prefix_seed=_SEED)
    assert isinstance(facts, RequestFacts)
    assert facts.prefix is not None
    return facts.prefix


class Fleet:
    """A predictor that knows so many engines, all busy, all with the beginning of the prompt and some with more."""

    def __init__(self, engines: int, prefix: PrefixChain) -> None:
        self.predictor = Predictor()
        self.endpoints = tuple(
            Endpoint(f"pod-{number:05}/10.0.{number >> 8}.{number & 255}:8000", f"10.0.0.1:{number}")
            for number in range(engines)
        )
        self.pool = Pool(self.endpoints, MODEL)
        self.query = RouteQuery(MODEL, body_bytes=prefix.size, prefix=prefix)
        rng = random.Random(1)
        for number in range(6 * engines):
            identity, now = self.endpoints[rng.randrange(engines)].identity, number / 1000
            own = tuple(rng.getrandbits(64) for _ in range(4))
            chain = PrefixChain((*prefix.hashes[:2], *own), tuple(1024 * place for place in range(1, 7)))
            name = str(number)
            self.predictor.placed(name, RouteQuery(MODEL, body_bytes=6144, prefix=chain), identity, now)
            if number % 2:
                self.predictor.finished(name, now + 0.3, head_at=now)
                self.predictor.charged(name, Usage(1500, 50, 1550, 100), after_head=0.1)
        for endpoint in self.endpoints[:8]:
            self.predictor.placed(endpoint.identity, self.query, endpoint.identity, 0.0)
        self.now = 6 * engines / 1000

    def decide(self) -> object:
        """One decision."""
        signals = Signals(LoadBook(), 1, now=self.now, predictor=self.predictor)
        self.predictor.index._last = None  # each prompt is looked up once to choose
        return Predicted().rank(self.query, self.pool, signals, 4)


def decisions() -> Iterator[Row]:
    """By the number of endpoints."""
    prefix = prefix_of(body_of(220_000, 4))
    for engines, goal in ((8, ""), (100, "<= 100"), (1000, "<= 600")):
        fleet = Fleet(engines, prefix)
        (us,) = shortest(fleet.decide, rounds=ROUNDS // 4)
        yield f"decision for a 220 KB prompt among {engines} busy endpoints, us", f"{us:.0f}", goal


def prefix_work() -> Iterator[Row]:
    """What reading the prefix adds to reading a body, with its lookup and its booking."""
    for size, messages, goal in ((1_000, 2, "<= 10"), (220_000, 4, "<= 80"), (220_000, 60, "")):
        body = body_of(size, messages)
        plain, read = shortest(partial(read_json, body), partial(read_json, body, prefix_seed=_SEED))
        prefix, index = prefix_of(body), PrefixIndex()
        names = itertools.cycle([f"e{number}" for number in range(8)])
        (used,) = shortest(partial(_use, index, prefix, names))
        name = f"prefix work for {size // 1000} KB in {messages} messages, us"
        yield name, f"{read - plain + used:.1f} ({read - plain:.1f} read, {used:.1f} index)", goal


def _use(index: PrefixIndex, prefix: PrefixChain, names: Iterator[str]) -> None:
    index.cached(prefix)
    index.placed(next(names), prefix)


def sharing() -> Iterator[Row]:
    """What a request costs more where gateways share, and what another gateway's costs: 20 go into a bulletin."""
    for size, messages in ((2_500, 2), (220_000, 60)):
        prefix = prefix_of(body_of(size, messages))
        alone, told, hears = Told(prefix), Told(prefix), Told(prefix)
        told.predictor.journal = told.outbox
        told.outbox.is_open = True
        without, with_it = shortest(alone.serve, told.serve, rounds=ROUNDS // 4)
        others = Others(hears.predictor, 2, lambda _: True, lambda: 0.0)
        (heard,) = shortest(partial(_hear, told, others), rounds=ROUNDS // 4)
        (made,) = shortest(told.bulletins, rounds=ROUNDS // 4)
        name = f"sharing of a {size / 1000:g} KB prompt, us"
        yield name, f"{(with_it - without) / _TOGETHER:.1f} to tell, {(heard - made) / _TOGETHER:.1f} to hear", ""


def _hear(told: "Told", others: Others) -> None:
    for one in told.bulletins():
        others.take(one, told.now)


class Told:
    """A gateway that serves requests with one prompt, and tells of them."""

    def __init__(self, prefix: PrefixChain) -> None:
        self.predictor, self.outbox, self.now = Predictor(), Outbox(1, lambda: 0.0), 0.0
        self._query = RouteQuery(MODEL, body_bytes=prefix.size, prefix=prefix)
        self._key = SealKey(b"secret", b"measured")

    def serve(self) -> list[bytes]:
        """So many requests from their placement to their charge, and the bulletins that tell of them."""
        for number in range(_TOGETHER):
            self.now += 0.01
            name = str(number)
            self.predictor.placed(name, self._query, f"e{number % 8}", self.now)
            self.predictor.finished(name, self.now + 0.3, head_at=self.now)
            self.predictor.charged(name, Usage(1500, 50, 1550, 100), after_head=0.1)
        return [self._key.seal(one) for one in self.outbox.take(self.now)]

    def bulletins(self) -> list[bytes]:
        """The same without seals."""
        return [one[SEAL_BYTES:] for one in self.serve()]


def index_memory() -> Row:
    """Of a full index over 100 engines."""
    rng = random.Random(1)
    index = PrefixIndex()
    names = [f"pod-{number:05}/10.0.0.{number}:8000" for number in range(100)]
    for name in names:
        index.limit(name, 1e12)
    tracemalloc.start()
    turn = 0
    while len(index) < 159_900:
        hashes = tuple(rng.getrandbits(64) for _ in range(60))
        index.placed(names[turn % 100], PrefixChain(hashes, tuple(4096 * place for place in range(1, 61))))
        turn += 1
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return "memory of the full index for 100 engines, MiB", f"{taken / 2**20:.0f}", "<= 64"


async def exchanges() -> Sequence[Row]:
    """A 1 KB chat, as it ships, beside least-request; four engines, 32 requests in flight."""
    size = len(chat_body(914))
    benches = [Bench(914, strategy) for strategy in ("least-request", "predicted")]
    for bench in benches:
        for _ in range(32):
            session = bench.gateway.new_session()
            for message in bench.next_messages()[:2]:
                bench.receive(session, message)
    plain, predicted = shortest(*(bench.shipped for bench in benches), calls=CALLS, rounds=4 * ROUNDS)
    added = predicted - plain
    return (
        (f"exchange of a {size} B chat with least-request, us (machine and observers, without sockets)",
         f"{plain:.1f}", ""),
        ("the same with predicted, us", f"{predicted:.1f} (+{added:.1f})", ""),
        ("cost with predicted over least-request, sockets and HTTP/2 included",
         f"{1 + added / (plain * WHOLE_EXCHANGE):.2f}", "<= 1.10"),
    )  # fmt: skip


def main() -> None:
    """Measure and print."""
    rows = [*prefix_work(), *sharing(), *decisions(), index_memory(), *asyncio.run(exchanges())]
    print(table(("what", "measured", "goal"), rows))


if __name__ == "__main__":
    main()
