"""Keeps sessions on one version of the weights while the endpoints of a model have several.

Each session has a place in [0, 1), and each version a part of that range, as large as its share of the endpoints. As an
update goes on, the parts move one way, so a session changes its version once at most. Nothing is remembered or shared.
"""

import hashlib
from collections import Counter
from typing import Final

from aibrix_extproc.core.fleet.model import Endpoint

Endpoints = tuple[Endpoint, ...]
MAX_MODELS: Final = 1024  # whose shares are remembered
_SCALE: Final = 2.0**64


class WeightVersions:
    """The shares of the versions of each model, counted again when its endpoints change."""

    def __init__(self) -> None:
        self._shares: dict[str, tuple[Endpoints, tuple[tuple[str, int], ...]]] = {}

    def of_session(self, session: str, model: str, members: Endpoints, ready: Endpoints) -> Endpoints:
        """The ready endpoints of the session's version; all of them if versions do not differ, or none of it is ready.

        `members` are all endpoints of the model, ready or not: one that is being updated moves no session but its own.
        """
        shares = self._counted(model, members)
        if len(shares) < 2:
            return ready
        total = sum(count for _, count in shares)
        place = int.from_bytes(hashlib.blake2b(session.encode("utf-8", "replace"), digest_size=8).digest(), "big")
        left = place / _SCALE * total
        for version, count in shares:
            if left < count:
                return tuple(one for one in ready if one.weight_version == version) or ready
            left -= count
        return ready

    def _counted(self, model: str, members: Endpoints) -> tuple[tuple[str, int], ...]:
        found = self._shares.get(model)
        if found is not None and found[0] is members:
            return found[1]
        if len(self._shares) >= MAX_MODELS:
            self._shares.clear()
        versions = Counter(one.weight_version for one in members if one.weight_version)
        shares = tuple(sorted(versions.items()))
        self._shares[model] = members, shares
        return shares
