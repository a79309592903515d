"""A line in the log for each endpoint that comes, goes, changes its health or gets a warning; a sum for many."""

import logging
from collections import Counter

from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot

logger = logging.getLogger(__name__)

MAX_LINES = 20  # of one snapshot: a thousand lines would hold every exchange up for half a second
_EXPECTED = frozenset({Health.READY, Health.UNKNOWN, Health.DRAINING})


class HealthLog:
    """Subscribe `log_changes` to the changes of the fleet store."""

    def log_changes(self, pairs: tuple[Pair, ...], snapshot: Snapshot) -> None:
        """Log what differs."""
        changed = [new for old, new in pairs if new is not None and (old is None or old.health is not new.health)]
        left = [old for old, new in pairs if old is not None and new is None]
        self._remark(pairs)
        self._say_cordons(pairs)
        for endpoint in changed[:MAX_LINES]:
            _say(endpoint)
        for endpoint in left[: max(0, MAX_LINES - len(changed))]:
            logger.info("endpoint has left", extra={"endpoint": endpoint.identity})
        unsaid = len(changed) + len(left) - MAX_LINES
        if unsaid > 0:
            counts = Counter(endpoint.health.value for endpoint in snapshot.endpoints)
            logger.info("more endpoints have changed", extra={"endpoints": unsaid, "now": dict(counts)})

    def _remark(self, pairs: tuple[Pair, ...]) -> None:
        fresh = [new for old, new in pairs if new and new.warning and (old is None or old.warning != new.warning)]
        for one in fresh[:MAX_LINES]:
            logger.warning("endpoint has a warning", extra={"endpoint": one.address, "detail": one.warning})
        if len(fresh) > MAX_LINES:
            logger.warning("more endpoints have warnings, see /fleet", extra={"endpoints": len(fresh) - MAX_LINES})

    def _say_cordons(self, pairs: tuple[Pair, ...]) -> None:
        news = [new for old, new in pairs if new and new.cordon != (old.cordon if old else "")]
        for one in news[:MAX_LINES]:
            text = "endpoint is cordoned" if one.cordon else "endpoint is cordoned no more"
            logger.info(text, extra={"endpoint": one.address or one.identity, "detail": one.cordon or None})
        if len(news) > MAX_LINES:
            logger.info("more cordons have changed, see /fleet", extra={"endpoints": len(news) - MAX_LINES})


def _say(endpoint: Endpoint) -> None:
    level = logging.INFO if endpoint.health in _EXPECTED else logging.WARNING
    fields = {"endpoint": endpoint.address or endpoint.identity, "detail": endpoint.detail or None}
    logger.log(level, "endpoint is %s", endpoint.health.value, extra=fields)
