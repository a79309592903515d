"""What the exchanges with engines show of them: when each last answered, and which exchanges wait at one.

An engine that falls asleep lets requests hang, and Envoy cannot be told to ask another one. So the exchanges that came
to it after it was last seen awake are ended with a 503 that says to come again at once. Those before are left alone:
the engine has ended them already, or it was paused with `mode=keep` and goes on with them later.
"""

import math
from collections.abc import Callable
from typing import Protocol

from aibrix_extproc.core.fleet.index import Pair
from aibrix_extproc.core.fleet.model import Snapshot


class Waiting(Protocol):
    """An exchange that was given to an engine."""

    def engine_asleep(self, *, elsewhere: bool) -> None:
        """End it if no answer has begun; `elsewhere`: another engine could take it now."""


class EngineTraffic:
    """Kept by address (answers) and by identity (exchanges); no larger than the fleet and the work."""

    def __init__(self, snapshot: Callable[[], Snapshot], clock: Callable[[], float]) -> None:
        self._snapshot = snapshot
        self._clock = clock
        self._answered_at: dict[str, float] = {}
        self._placed_at: dict[str, dict[Waiting, float]] = {}

    def answered(self, address: str, at: float) -> None:
        """An engine has begun to answer a client."""
        self._answered_at[address] = at

    def placed(self, identity: str, exchange: Waiting, at: float) -> None:
        """An exchange goes to an engine."""
        self._placed_at.setdefault(identity, {})[exchange] = at

    def ended(self, identity: str, exchange: Waiting) -> None:
        """An exchange is over."""
        here = self._placed_at.get(identity)
        if here is not None:
            here.pop(exchange, None)
            if not here:
                del self._placed_at[identity]

    def forget(self, pairs: tuple[Pair, ...], snapshot: Snapshot) -> None:
        """Drop the answers of engines that have left the fleet, or their address. Subscribe it to changes."""
        for old, new in pairs:
            if old is not None and (new is None or new.address != old.address):
                self._answered_at.pop(old.address, None)

    def silence_seconds(self, address: str) -> float:
        """Since an engine last answered a client; infinite if it never has."""
        at = self._answered_at.get(address)
        return math.inf if at is None else self._clock() - at

    def engine_asleep(self, identity: str, awake_at: float) -> None:
        """End the exchanges that went to an engine after it was last seen awake, and have no answer."""
        late = [one for one, at in self._placed_at.get(identity, {}).items() if at >= awake_at]
        if late:
            elsewhere = self._is_elsewhere(identity)
            for exchange in late:
                exchange.engine_asleep(elsewhere=elsewhere)

    def _is_elsewhere(self, identity: str) -> bool:
        """Whether another engine is ready for each model of this one."""
        snapshot = self._snapshot()
        served = next((one.models for one in snapshot.endpoints if one.identity == identity), ())
        return all(
            any(other.identity != identity for other in snapshot.ready_by_model.get(model.id, ())) for model in served
        )
