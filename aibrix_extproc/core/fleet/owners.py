"""Which engine holds which response: vLLM keeps responses in the memory of the process that made them.

Bounded in number (the oldest goes first) and in time. One gateway process knows what it placed itself; a store shared
by replicas would have the same two methods.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MAX_RESPONSES: Final = 100_000
KEEP_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Owner:
    """The endpoint that holds a response, the model that made it and the caller it belongs to."""

    identity: str
    model: str
    caller: str
    at: float  # monotonic seconds


class ResponseOwners:
    """A map from response id to owner that forgets."""

    def __init__(self, limit: int = MAX_RESPONSES, keep_seconds: float = KEEP_SECONDS) -> None:
        self._limit = limit
        self._keep_seconds = keep_seconds
        self._owners: OrderedDict[str, Owner] = OrderedDict()

    def __len__(self) -> int:
        return len(self._owners)

    def record(self, response_id: str, owner: Owner) -> None:
        """Remember; the oldest are forgotten when there are too many or they are too old."""
        self._owners[response_id] = owner
        self._owners.move_to_end(response_id)
        while len(self._owners) > self._limit or self._is_old(next(iter(self._owners.values())), owner.at):
            self._owners.popitem(last=False)

    def find(self, response_id: str, caller: str, at: float) -> Owner | None:
        """The owner, if it is known and the response belongs to this caller."""
        owner = self._owners.get(response_id)
        if owner is None or owner.caller != caller or self._is_old(owner, at):
            return None
        return owner

    def _is_old(self, owner: Owner, at: float) -> bool:
        return at - owner.at > self._keep_seconds
