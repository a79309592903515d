"""A line in the log for each endpoint that comes, goes, changes its health or gets a remark; a sum for many at once."""

import logging
from collections import Counter

from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot

logger = logging.getLogger(__name__)

MAX_LINES = 20  # of one snapshot: a thousand lines would hold every exchange up for half a second
_EXPECTED = frozenset({Health.READY, Health.UNKNOWN, Health.DRAINING})


class HealthLog:
    """Subscribe `look_at` to the fleet store."""

    def __init__(self) -> None:
        self._known: dict[str, Health] = {}
        self._remarks: dict[str, str] = {}

    def look_at(self, snapshot: Snapshot) -> None:
        """Log what differs from the snapshot before."""
        present = {endpoint.identity: endpoint.health for endpoint in snapshot.endpoints}
        changed = [one for one in snapshot.endpoints if self._known.get(one.identity) is not one.health]
        left = [identity for identity in self._known if identity not in present]
        self._known = present
        self._remark(snapshot)
        for endpoint in changed[:MAX_LINES]:
            _say(endpoint)
        for identity in left[: MAX_LINES - len(changed)] if len(changed) < MAX_LINES else ():
            logger.info("endpoint has left", extra={"endpoint": identity})
        unsaid = len(changed) + len(left) - MAX_LINES
        if unsaid > 0:
            counts = Counter(health.value for health in present.values())
            logger.info("more endpoints have changed", extra={"endpoints": unsaid, "now": dict(counts)})

    def _remark(self, snapshot: Snapshot) -> None:
        before = self._remarks
        self._remarks = {one.identity: one.remark for one in snapshot.endpoints if one.remark}
        fresh = [one for one in snapshot.endpoints if one.remark and before.get(one.identity) != one.remark]
        for one in fresh[:MAX_LINES]:
            logger.warning("endpoint has a remark", extra={"endpoint": one.address, "detail": one.remark})
        if len(fresh) > MAX_LINES:
            logger.warning("more endpoints have remarks, see /fleet", extra={"endpoints": len(fresh) - MAX_LINES})


def _say(endpoint: Endpoint) -> None:
    level = logging.INFO if endpoint.health in _EXPECTED else logging.WARNING
    fields = {"endpoint": endpoint.address or endpoint.identity, "detail": endpoint.detail or None}
    logger.log(level, "endpoint is %s", endpoint.health.value, extra=fields)
