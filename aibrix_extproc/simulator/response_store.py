"""The in-process store of the Responses API: lost on restart, known to one engine only, as in vLLM."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_CAPACITY = 10_000


@dataclass(slots=True)
class StoredResponse:
    """One response, as far as it has come."""

    response: dict[str, Any]
    messages: list[dict[str, Any]]
    """The conversation up to and including the answer, for the next turn."""
    events: list[bytes] = field(default_factory=list)
    """What a stream has sent, for who asks for it again."""
    cancel: Callable[[], None] | None = None


class ResponseStore:
    """Responses by id, the oldest forgotten first."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._responses: OrderedDict[str, StoredResponse] = OrderedDict()

    def put(self, stored: StoredResponse) -> None:
        """Keep a response."""
        if not self.enabled:
            return
        self._responses[stored.response["id"]] = stored
        while len(self._responses) > _CAPACITY:
            self._responses.popitem(last=False)

    def get(self, response_id: str) -> StoredResponse | None:
        """Find a response."""
        return self._responses.get(response_id)
