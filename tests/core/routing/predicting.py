"""Engines that compute prompts, and the predictor that is told of it."""

from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.placing import RouteQuery
from aibrix_extproc.core.routing.pool import Pool
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.scorers.predicted import Predicted
from aibrix_extproc.core.routing.signals import Signals

MODEL = "m"
BYTES = 4  # for a token


def endpoints(count: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(identity=f"e{number}", address=f"10.0.0.{number}:8000") for number in range(count))


def a_query(tokens: int, *blocks: int) -> RouteQuery:
    """A prompt of so many tokens. It has these blocks of 512 tokens, and nothing in common with others behind them."""
    ends = tuple(512 * BYTES * place for place in range(1, len(blocks) + 1))
    rest = tokens * BYTES - (ends[-1] if ends else 0)
    chain = PrefixChain((*blocks, hash((blocks, tokens)) & 2**63 - 1), (*ends, (ends[-1] if ends else 0) + rest))
    return RouteQuery(MODEL, body_bytes=tokens * BYTES, prefix=chain)


class Fleet:
    """Engines that compute prompts one after the other, and the predictor that is told of it."""

    def __init__(self, *speeds: float) -> None:
        self.predictor = Predictor()
        self.endpoints = endpoints(len(speeds))
        self.speeds = speeds
        self.free_at = [0.0] * len(speeds)
        self.scorer = Predicted()
        self.now = 0.0
        self.count = 0

    def pick(self, query: RouteQuery) -> int:
        signals = Signals(LoadBook(), self.count, now=self.now, predictor=self.predictor)
        first = self.scorer.rank(query, Pool(self.endpoints, MODEL), signals, 1)[0]
        return self.endpoints.index(first)

    def send(self, query: RouteQuery, engine: int, *, cached: int = 0, output: int = 10) -> float:
        """Place a request, and tell what became of it at once; returns its time to the first token."""
        self.count += 1
        name, identity = f"r{self.count}", self.endpoints[engine].identity
        self.predictor.placed(name, query, identity, self.now)
        tokens = query.body_bytes // BYTES
        first = max(self.free_at[engine], self.now) + (tokens - cached) / self.speeds[engine]
        self.free_at[engine] = first
        self.predictor.finished(name, first + 0.02 * (output - 1), head_at=self.now)
        usage = Usage(tokens, output, tokens + output, cached)
        self.predictor.charged(name, usage, after_head=first - self.now)
        return first - self.now
