"""Beliefs about one engine, in one place, so that a decision among many reads each of them once."""

from collections import deque
from typing import Final

from aibrix_extproc.core.routing.prefix.index import Change


class Flight:
    """One request at one engine. Times are those of the caller's clock, in seconds."""

    __slots__ = (
        "change",
        "done_at",
        "ended_at",
        "engine",
        "first_at",
        "is_listed",
        "number",
        "placed_at",
        "tokens",
        "turn",
        "would_be_done_at",
    )

    def __init__(self, engine: "Engine", tokens: float, placed_at: float) -> None:
        self.engine = engine
        self.tokens = tokens  # to be computed: those of the prompt that are not in the engine's cache
        self.placed_at = placed_at
        self.turn = engine.turns  # its number at the engine
        self.done_at = placed_at  # when its prompt will be computed
        self.would_be_done_at = placed_at  # the same as it was predicted at first
        self.first_at: float | None = None  # when its first token came
        self.ended_at: float | None = None
        self.is_listed = True  # whether its first token is still waited for
        self.number = 0  # by which other gateways are told of it
        self.change: Change | None = None  # of the prefix index, as long as it may have to be taken back


MAX_ARRIVALS: Final = 1_024  # of a group that are remembered at least
MAX_FLIGHTS: Final = 512  # of one engine that are remembered, and whose first tokens are waited for


class Arrivals:
    """When the latest requests for the engines of a group came, in order."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times: list[float] = []

    def add(self, at: float) -> None:
        """One has come; of other gateways we hear a little later."""
        times = self.times
        times.append(max(at, times[-1]) if times else at)
        if len(times) > 2 * MAX_ARRIVALS:
            del times[:MAX_ARRIVALS]


class Engine:
    """One engine. Each of its numbers has one writer: the work book, the speeds, or the audit."""

    __slots__ = (
        "anchor", "anchored_at", "arrivals", "confidence", "finds", "first_tokens", "flights", "free_at", "group",
        "identity", "is_full", "late", "pace", "reached", "read_at", "recent", "running", "sign_at", "slot", "tokens",
        "turns", "waiting",
    )  # fmt: skip

    def __init__(self, identity: str, group: str, slot: int, pace: float, arrivals: "Arrivals | None" = None) -> None:
        self.identity = identity
        self.group = group  # its base model: engines of a group are compared
        self.arrivals = Arrivals() if arrivals is None else arrivals  # of its group
        self.slot = slot  # its bit in the prefix index
        # The work book's.
        self.free_at = 0.0  # when it can begin with another prompt
        self.tokens = 0.0  # to be computed, of all flights that have not ended
        self.running = 0  # flights that have not ended
        self.flights: deque[Flight] = deque()  # whose first tokens are waited for, in the order in which they came
        self.turns = 0  # flights in all
        self.recent: deque[Flight] = deque(maxlen=MAX_FLIGHTS)  # the latest of them
        self.anchor = -1  # the latest turn that is known to be computed
        self.anchored_at = 0.0  # and when it was
        self.sign_at = 0.0  # when it last did something for anybody
        self.first_tokens: float | None = None  # its own count of requests that have one
        self.reached = -1  # no later turn can have had its first token by then
        self.late = -1  # the turn that was last seen not to be computed when it should have been
        # The speeds'.
        self.pace = pace  # seconds for a token of a prompt
        # The audit's.
        self.confidence = 1.0  # share of what the index says that it probably has
        # The predictor's.
        self.waiting = 0.0  # requests that it has not begun with, as it said
        self.read_at = 0.0  # and when
        self.finds = False  # whether it said that it has found tokens in its cache
        self.is_full = False  # whether another prompt drops others from its cache
