"""A token bucket: the budget for events that cost work and carry nothing."""


class TokenBucket:
    """Holds `capacity` tokens and refills at a rate; the caller passes the time.

    `spend` may also add tokens that were earned. Earned tokens are kept up to `saved`, which may exceed `capacity`.
    """

    __slots__ = ("_capacity", "_rate", "_saved", "_tokens", "_updated_at")

    def __init__(self, capacity: int, per_second: float, saved: int = 0) -> None:
        self._capacity = float(capacity)
        self._rate = per_second
        self._saved = float(max(capacity, saved))
        self._tokens = float(capacity)
        self._updated_at: float | None = None

    def spend(self, now: float, earned: float = 0.0) -> bool:
        """Add `earned` tokens and take one. False if none is left. `now` is in monotonic seconds."""
        tokens = self._tokens
        if self._updated_at is not None and tokens < self._capacity:
            tokens = min(self._capacity, tokens + (now - self._updated_at) * self._rate)
        self._updated_at = now
        self._tokens = min(self._saved, tokens + earned)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
