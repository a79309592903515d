"""Finds the engine that holds a response, from the response's id.

vLLM keeps a response in the memory of the process that made it. The id names the endpoints that may have made it, so
every gateway process finds them (`response_ids.py`). If Envoy's retry took the request to another of them, the process
that saw it remembers which: bounded in number and in time.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

import msgspec

from aibrix_extproc.core.fleet.model import Endpoint
from aibrix_extproc.core.placing import Placement
from aibrix_extproc.core.routing.response_ids import KEEP_SECONDS, Claim, IdKey, read_id

MAX_MOVED: Final = 100_000
KEEP_MOVED_SECONDS: Final = 3600.0


class Owner(msgspec.Struct, frozen=True, gc=False):
    """Who holds a response: what its id says, and the one that it was moved to, if that is known."""

    claim: Claim
    moved_to: str | None

    def holder(self, endpoints: Iterable[Endpoint]) -> Endpoint | None:
        """The live endpoint that holds it; None if it is gone."""
        if self.moved_to is not None:
            return next((one for one in endpoints if one.identity == self.moved_to), None)
        named = self.claim.held_by(endpoints)
        return named[0] if named else None

    def model(self, models: Iterable[str]) -> str | None:
        """The model that made it, if that is still served."""
        return next((model for model in models if self.claim.is_of(model)), None)


class ResponseOwners:
    """Gives ids to responses and finds their owners."""

    def __init__(self, secrets: Iterable[bytes], limit: int = MAX_MOVED) -> None:
        self._keys: tuple[IdKey, ...] = ()
        self._limit = limit
        self._moved: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self.use_secrets(secrets)

    def __len__(self) -> int:
        return len(self._moved)

    def use_secrets(self, secrets: Iterable[bytes]) -> None:
        """From now on the first secret makes ids, and all of them are accepted. At least one is needed."""
        self._keys = tuple(IdKey(secret) for secret in secrets)

    def issue(self, caller: str, placement: Placement, wall_at: float, random: float) -> str:
        """The id for a response that these candidates may make."""
        return self._keys[0].issue(caller, placement.model, placement.candidates, wall_at, random)

    def record_move(self, response_id: str, identity: str, at: float) -> None:
        """Remember which endpoint made the response in place of the first. `at`: monotonic seconds."""
        self._moved[response_id] = (identity, at)
        while len(self._moved) > self._limit or at - next(iter(self._moved.values()))[1] > KEEP_MOVED_SECONDS:
            self._moved.popitem(last=False)

    def find(self, response_id: str, caller: str, wall_at: float) -> Owner | None:
        """The owner; None for an id that is forged, too old, or belongs to another caller."""
        claim = read_id(self._keys, caller, response_id)
        if claim is None or wall_at - claim.wall_at > KEEP_SECONDS:
            return None
        moved = self._moved.get(response_id)
        return Owner(claim, moved[0] if moved is not None else None)
