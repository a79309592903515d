"""Log lines that a peer can cause: it must not be able to fill a disk with them."""

import logging
from collections.abc import Callable
from typing import Any, Final

INTERVAL_SECONDS: Final = 60.0


class RateLimitedLog:
    """Some lines in a minute, then none; the first one of a later minute tells how many were left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float], most: int) -> None:
        self._logger = logger
        self._clock = clock
        self._most = most
        self._since: float | None = None
        self._said = 0
        self._left_out = 0

    def warn(self, message: str, **extra: Any) -> None:
        """Log it if it is not too much."""
        now = self._clock()
        if self._since is None or now - self._since >= INTERVAL_SECONDS:
            self._since, self._said = now, 0
        if self._said >= self._most:
            self._left_out += 1
            return
        self._said += 1
        if self._left_out:
            extra["left_out"] = self._left_out
            self._left_out = 0
        self._logger.warning(message, extra=extra)
