"""Who is told what happens to the flights of this gateway, as the predictor learns of it."""

from typing import Protocol

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.routing.engine import Flight


class Journal(Protocol):
    """Keeps flights for others. Called on the path of a request, so it does no more than to write down."""

    def placed(self, flight: Flight, chain: PrefixChain | None) -> None:
        """An engine got a request."""
        ...

    def ended(self, flight: Flight, at: float, *, served: bool) -> None:
        """It is over."""
        ...

    def computed(self, flight: Flight) -> None:
        """Its tokens, and perhaps the time of its first token, are known."""
        ...
