"""A line in the log for every endpoint that comes, goes or changes its health."""

import logging

from aibrix_extproc.core.fleet.model import Endpoint, Health, Snapshot

logger = logging.getLogger(__name__)

_EXPECTED = frozenset({Health.READY, Health.UNKNOWN, Health.DRAINING})


class HealthLog:
    """Subscribe `told` to the fleet store."""

    def __init__(self) -> None:
        self._known: dict[str, Health] = {}

    def told(self, snapshot: Snapshot) -> None:
        """Log what differs from the snapshot before."""
        present = {endpoint.identity: endpoint for endpoint in snapshot.endpoints}
        for identity, endpoint in present.items():
            if self._known.get(identity) is not endpoint.health:
                self._say(endpoint)
        for identity in self._known.keys() - present.keys():
            logger.info("endpoint has left", extra={"endpoint": identity})
        self._known = {identity: endpoint.health for identity, endpoint in present.items()}

    def _say(self, endpoint: Endpoint) -> None:
        level = logging.INFO if endpoint.health in _EXPECTED else logging.WARNING
        fields = {"endpoint": endpoint.address or endpoint.identity, "detail": endpoint.detail or None}
        logger.log(level, "endpoint is %s", endpoint.health.value, extra=fields)
