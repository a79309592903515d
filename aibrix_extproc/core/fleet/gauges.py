"""Readings of engines' metrics pages: one for each endpoint, with the time it was taken.

A reading is old by the time it is used, so what it says of others is added to our own exact counts, and fades out with
its age: without readings our own counts are what remains.
"""

from typing import Final

import msgspec

FRESH_SECONDS: Final = 8.0  # a reading counts in full up to this age; idle engines are read less often than busy ones
STALE_SECONDS: Final = 30.0  # and not at all from this age on


class EngineGauges(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One reading of one engine. None: the engine has no such series, or its value makes no sense."""

    at: float  # monotonic seconds when the answer came
    asked_at: float | None = None  # and when it was asked for: what it says was true at some time between
    own: int = 0  # our exchanges that were with the endpoint then: the engine counts them, too
    running: float | None = None  # sequences in the batch
    waiting: float | None = None
    kv_usage: float | None = None  # part of the KV cache in use, 0 to 1
    cache_tokens: int | None = None  # size of the KV cache
    block_tokens: int | None = None  # size of its blocks
    keeps_prefixes: bool | None = None  # whether the engine has a prefix cache
    asleep: bool | None = None
    running_adapters: frozenset[str] = frozenset()
    waiting_adapters: frozenset[str] = frozenset()
    max_adapters: int | None = None
    utilization: float | None = None  # as the engine defines it, 0 to 1; xLLM alone
    # Counters, since the engine started.
    preemptions: float | None = None
    rejections: float | None = None
    cache_queries: float | None = None  # tokens
    cache_hits: float | None = None
    prompt_tokens: float | None = None
    generation_tokens: float | None = None
    first_tokens: float | None = None  # requests that have one
    first_token_seconds: float | None = None  # what they waited for it, together
    token_gaps: float | None = None  # between two tokens of a request
    token_gap_seconds: float | None = None

    @property
    def others(self) -> float:
        """Requests at the endpoint that were not ours."""
        return 0.0 if self.running is None else max(self.running + (self.waiting or 0.0) - self.own, 0.0)


def freshness(age: float) -> float:
    """The weight of a reading of this age in seconds, from 1 to 0. A clock that jumps back makes none fresher."""
    if age <= FRESH_SECONDS:
        return 1.0
    return max(0.0, (STALE_SECONDS - age) / (STALE_SECONDS - FRESH_SECONDS))
