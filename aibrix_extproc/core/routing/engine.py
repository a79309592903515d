"""Beliefs about one engine, in one place, so that a decision among many reads each of them once."""

from collections import deque


class Flight:
    """One request at one engine. Times are those of the caller's clock, in seconds."""

    __slots__ = (
        "done_at",
        "ended_at",
        "engine",
        "first_at",
        "group",
        "is_listed",
        "placed_at",
        "tokens",
        "would_be_done_at",
    )

    def __init__(self, engine: "Engine", group: str, tokens: float, placed_at: float) -> None:
        self.engine = engine
        self.group = group
        self.tokens = tokens  # to be computed: those of the prompt that are not in the engine's cache
        self.placed_at = placed_at
        self.done_at = placed_at  # when its prompt will be computed
        self.would_be_done_at = placed_at  # the same as it was predicted at first
        self.first_at: float | None = None  # when its first token came
        self.ended_at: float | None = None
        self.is_listed = True  # whether its first token is still waited for


class Engine:
    """One engine. Each of its numbers has one writer: the work book, the speeds, or the audit."""

    __slots__ = (
        "confidence", "flights", "free_at", "identity", "last_first", "pace", "running", "sign_at", "slot", "tokens",
    )  # fmt: skip

    def __init__(self, identity: str, slot: int, pace: float) -> None:
        self.identity = identity
        self.slot = slot  # its bit in the prefix index
        # The work book's.
        self.free_at = 0.0  # when it can begin with another prompt
        self.tokens = 0.0  # to be computed, of all flights that have not ended
        self.running = 0  # flights that have not ended
        self.flights: deque[Flight] = deque()  # whose first tokens are waited for, in the order in which they came
        self.last_first = 0.0  # the latest first token of a flight that is not listed any more
        self.sign_at = 0.0  # when it last did something for anybody
        # The speeds'.
        self.pace = pace  # seconds for a token of a prompt
        # The audit's.
        self.confidence = 1.0  # share of what the index says that it probably has
