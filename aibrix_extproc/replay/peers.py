"""Strategies of other projects, by their documentation, for comparison; the gateway does not have them.

Each knows what its project's gateway knows: its own requests in flight, what it has sent where (an index of the size of
the engines' caches), and for some the engines' gauges, here without any delay.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Final

from aibrix_extproc.replay.cache import BlockCache
from aibrix_extproc.replay.engine_model import EngineModel, Visit
from aibrix_extproc.replay.trace import Request

_FIRST_BLOCKS: Final = 2  # that are hashed by `prefix-hash`: 1,024 tokens


class Book:
    """What a gateway keeps of engines. `in_flight`: requests; `tokens`: uncached prompt tokens before a first token."""

    def __init__(self, engines: Sequence[EngineModel], seed: int) -> None:
        self.engines = engines
        self.numbers = range(len(engines))
        self.draw = Random(seed)
        self.index = [BlockCache(engine.capacity, engine.block_tokens) for engine in engines]
        self.in_flight = [0] * len(engines)
        self.tokens = [0] * len(engines)
        self._own: dict[int, int] = {}  # uncached tokens by request

    def uncached(self, request: Request, engine: int) -> int:
        """Tokens of the prompt that the engine would have to compute."""
        return request.prompt_tokens - self.index[engine].match(request.blocks, request.prompt_tokens)

    def matches(self, request: Request) -> list[float]:
        """The part of the prompt that each engine has, 0 to 1."""
        return [1 - self.uncached(request, engine) / request.prompt_tokens for engine in self.numbers]

    def least(self, values: Sequence[float], among: Sequence[int] = ()) -> int:
        """The engine with the least value; equal ones by chance."""
        numbers = among or self.numbers
        lowest = min(values[number] for number in numbers)
        return self.draw.choice([number for number in numbers if values[number] == lowest])

    def sent(self, number: int, request: Request, engine: int) -> None:
        """Count a request in."""
        self._own[number] = own = self.uncached(request, engine)
        self.in_flight[engine] += 1
        self.tokens[engine] += own
        self.index[engine].insert(request.blocks)

    def begun(self, number: int, engine: int) -> None:
        """Its first token has come."""
        self.tokens[engine] -= self._own.pop(number)

    def ended(self, engine: int) -> None:
        """Count a request out."""
        self.in_flight[engine] -= 1


Choice = Callable[[Book, Request], int]


class PeerRouter:
    """A strategy of another project at work."""

    def __init__(self, choice: Choice, engines: Sequence[EngineModel], seed: int) -> None:
        self._choice = choice
        self._book = Book(engines, seed)

    def place(self, number: int, request: Request, now: float) -> int:
        """The engine for a request."""
        chosen = self._choice(self._book, request)
        self._book.sent(number, request, chosen)
        return chosen

    def first_token(self, visit: Visit, engine: int, now: float) -> None:
        """The prompt is computed."""
        self._book.begun(visit.number, engine)

    def finished(self, visit: Visit, engine: int, now: float) -> None:
        """It is not in flight any more."""
        self._book.ended(engine)

    def charged(self, visit: Visit, engine: int, now: float) -> None:
        """None of them learns from it."""


def least_tokens(book: Book, request: Request) -> int:
    """The fewest uncached prompt tokens in flight."""
    return book.least(book.tokens)


def prefix_hash(book: Book, request: Request) -> int:
    """By a hash of the first 1,024 tokens."""
    return Random(str((book.draw.random() if not request.blocks else 0, request.blocks[:_FIRST_BLOCKS]))).randrange(
        len(book.engines)
    )


def longest_prefix(book: Book, request: Request) -> int:
    """The longest cached prefix; of equals the fewest requests."""
    matches = book.matches(request)
    most = max(matches)
    return book.least(book.in_flight, [number for number in book.numbers if matches[number] == most])


def sglang(book: Book, request: Request) -> int:
    """SGLang's cache_aware: the longest match if it is above .5, else the smallest tree.

    The fewest requests if these differ by more than 32 and by 1.5 times.
    """
    least, most = min(book.in_flight), max(book.in_flight)
    if most - least > 32 and most > 1.5 * least:
        return book.least(book.in_flight)
    matches = book.matches(request)
    longest = max(matches)
    if longest > 0.5:
        return book.least(book.in_flight, [number for number in book.numbers if matches[number] == longest])
    return book.least([len(index) for index in book.index])


def aibrix(book: Book, request: Request) -> int:
    """AIBrix's prefix-cache: the longest match among engines with at most the mean and two deviations of requests.

    The fewest requests if these differ by more than 16, or if nothing matches.
    """
    counts = book.in_flight
    if max(counts) - min(counts) > 16:
        return book.least(counts)
    bound = statistics.fmean(counts) + 2 * statistics.pstdev(counts)
    matches = book.matches(request)
    for match in sorted({match for match in matches if match > 0}, reverse=True):
        found = [number for number in book.numbers if matches[number] == match and counts[number] <= bound]
        if found:
            return book.least(counts, found)
    return book.least(counts)


def llm_d(book: Book, request: Request) -> int:
    """llm-d's default weights: queue 2, KV cache usage 2, prefix 3."""
    waiting = [engine.waiting for engine in book.engines]
    spread = (max(waiting) - min(waiting)) or 1
    scores = [
        2 * (max(waiting) - waiting[number]) / spread + 2 * (1 - book.engines[number].cache_usage) + 3 * match
        for number, match in enumerate(book.matches(request))
    ]
    return book.least([-score for score in scores])


def dynamo(book: Book, request: Request) -> int:
    """Dynamo's KV router with its defaults: prompt blocks to compute there, and blocks that its requests hold."""
    size = book.index[0].block_tokens
    held = [engine.cache_usage * engine.capacity for engine in book.engines]
    return book.least([work / size + held[number] for number, work in enumerate(least_work_values(book, request))])


def sticky(book: Book, request: Request) -> int:
    """The longest match if it is above .8 and less than 18 s of work is before it, else the least work."""
    work = least_work_values(book, request)
    matches = book.matches(request)
    best = book.least([-match for match in matches])
    if matches[best] > 0.8 and book.tokens[best] < 18 * 16_000:
        return best
    return book.least(work)


def least_work(book: Book, request: Request) -> int:
    """The fewest uncached tokens in flight and of its own."""
    return book.least(least_work_values(book, request))


def least_work_values(book: Book, request: Request) -> list[float]:
    """Tokens by engine."""
    return [book.tokens[number] + book.uncached(request, number) for number in book.numbers]


PEERS: Final[Mapping[str, Choice]] = MappingProxyType(
    {
        "least-tokens": least_tokens,
        "prefix-hash": prefix_hash,
        "longest-prefix": longest_prefix,
        "sglang": sglang,
        "aibrix": aibrix,
        "llm-d": llm_d,
        "dynamo": dynamo,
        "sticky": sticky,
        "least-work": least_work,
    }
)
