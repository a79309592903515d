"""Collects what this gateway does with requests, until it is sent to the others. What is too much is dropped."""

from collections.abc import Callable
from itertools import count
from typing import Final

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.engine import Flight
from aibrix_extproc.core.routing.sharing.bulletin import (
    MAX_BULLETIN_BYTES,
    Bulletin,
    Charged,
    Computed,
    Ended,
    Placed,
    encoded_bulletin,
    packed_chain,
)

MAX_BULLETINS: Final = 16  # that wait to be sent: 128 KiB
ALIVE_SECONDS: Final = 3.0  # after which a gateway with requests in flight sends an empty bulletin
_EVENT_BYTES: Final = 24  # of one that has no prompt
_FULL: Final = MAX_BULLETIN_BYTES - 512  # so that the last entry and the head fit
_MOST_NAME: Final = 512


class _Open:
    """The bulletin that is being filled."""

    def __init__(self) -> None:
        self.identities: dict[str, int] = {}
        self.models: dict[str, int] = {}
        self.placed: list[tuple[Placed, float]] = []  # with the times by our clock
        self.ended: list[tuple[Ended, float]] = []
        self.computed: list[tuple[Computed, float | None]] = []
        self.charged: list[Charged] = []
        self.size = 0


class Outbox:
    """A journal of the predictor: it is told of flights. `clock`: the one by which the predictor is told the time."""

    def __init__(self, sender: int, wall_clock: Callable[[], float]) -> None:
        self.sender = sender
        self._wall_clock = wall_clock
        self._numbers = count(1)
        self._bulletins = count(1)
        self._waiting: list[_Open] = []
        self._sent_at = 0.0
        self._in_flight = 0
        self.is_open = False  # whether anybody can be told
        self.sent = 0  # placements
        self.dropped = 0

    def placed(self, flight: Flight, chain: PrefixChain | None) -> None:
        """An engine got a request of ours."""
        flight.number = next(self._numbers)
        self._in_flight += 1
        hashes, ends = packed_chain(chain)
        identity = flight.engine.identity
        size = _EVENT_BYTES + len(hashes) + len(ends)
        names = len(identity) + len(flight.engine.group)
        bulletin = self._bulletin(size + names) if names <= _MOST_NAME else None
        if bulletin is None:
            self.dropped += self.is_open
            return
        engine = bulletin.identities.setdefault(identity, len(bulletin.identities))
        model = bulletin.models.setdefault(flight.engine.group, len(bulletin.models))
        entry = Placed(flight.number, engine, model, 0.0, flight.tokens, hashes, ends)
        bulletin.placed.append((entry, flight.placed_at))
        bulletin.size += size + names
        self.sent += 1

    def ended(self, flight: Flight, at: float, *, served: bool) -> None:
        """It is over."""
        if not flight.number:
            return
        self._in_flight -= 1
        if (bulletin := self._bulletin(_EVENT_BYTES)) is not None:
            bulletin.ended.append((Ended(flight.number, 0.0, served), at))
            bulletin.size += _EVENT_BYTES

    def computed(self, flight: Flight) -> None:
        """Its charge has come."""
        if flight.number and (bulletin := self._bulletin(_EVENT_BYTES)) is not None:
            bulletin.computed.append((Computed(flight.number, flight.tokens, None), flight.first_at))
            bulletin.size += _EVENT_BYTES

    def charged(self, request_id: str, usage: Usage | None, after_head: float | None, *, streamed: bool) -> None:
        """The charge of a request that is not ours has come."""
        size = _EVENT_BYTES + len(request_id)
        if size <= _MOST_NAME and (bulletin := self._bulletin(size)) is not None:
            tokens = None if usage is None else (usage.input_tokens, usage.output_tokens, usage.cached_tokens)
            bulletin.charged.append(Charged(request_id, tokens, after_head, streamed))
            bulletin.size += size

    def take(self, now: float) -> list[bytes]:
        """What is to be sent now, oldest first."""
        waiting, self._waiting = self._waiting, []
        if not waiting and self._in_flight and now - self._sent_at >= ALIVE_SECONDS:
            waiting = [_Open()]
        if waiting:
            self._sent_at = now
        return [self._encoded(one, now) for one in waiting]

    def drop(self) -> None:
        """Nobody can be told."""
        self._waiting.clear()
        self.is_open = False

    def _bulletin(self, size: int) -> _Open | None:
        """The bulletin that has room for so much; None if none has, or nobody can be told."""
        if not self.is_open or size > _FULL:
            return None
        if self._waiting and self._waiting[-1].size + size <= _FULL:
            return self._waiting[-1]
        if len(self._waiting) >= MAX_BULLETINS:
            return None
        self._waiting.append(_Open())
        return self._waiting[-1]

    def _encoded(self, one: _Open, now: float) -> bytes:
        bulletin = Bulletin(
            self.sender, next(self._bulletins), int(self._wall_clock()), now,
            tuple(one.identities), tuple(one.models),
            tuple(Placed(p.number, p.engine, p.model, now - at, p.tokens, p.hashes, p.ends) for p, at in one.placed),
            tuple(Ended(e.number, now - at, e.served) for e, at in one.ended),
            tuple(Computed(c.number, c.tokens, None if at is None else now - at) for c, at in one.computed),
            tuple(one.charged),
        )  # fmt: skip
        return encoded_bulletin(bulletin)
