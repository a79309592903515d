"""Log lines that a peer can cause. A limit keeps peers from filling a disk with them."""

import logging
from collections.abc import Callable
from typing import Any, Final

INTERVAL_SECONDS: Final = 60.0


class RateLimitedLog:
    """Logs `limit` lines per minute. The first line of a later minute says how many were left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], limit: int) -> None:
        self._logger = logger
        self._clock = clock
        self._limit = limit
        self._since: float | None = None
        self._logged = 0
        self._left_out = 0

    def warn(self, message: str, **extra: Any) -> None:
        """Log a warning with these fields, unless the limit is reached."""
        now = self._clock()
        if self._since is None or now - self._since >= INTERVAL_SECONDS:
            self._since, self._logged = now, 0
        if self._logged >= self._limit:
            self._left_out += 1
            return
        self._logged += 1
        if self._left_out:
            extra["left_out"] = self._left_out
            self._left_out = 0
        self._logger.warning(message, extra=extra)
