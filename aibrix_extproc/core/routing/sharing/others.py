"""Takes in what other gateways tell, as if their requests were our own: caches, work that waits, and its end.

Everything is bounded, and nothing that a bulletin says can do more than worsen predictions. The flights of a gateway
that is silent, or of which a bulletin was lost, are over.
"""

import math
import struct
from collections import OrderedDict, deque
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from aibrix_extproc.core.openai.wire.prefix import PrefixChain
from aibrix_extproc.core.openai.wire.usage import Usage
from aibrix_extproc.core.routing.engine import Flight
from aibrix_extproc.core.routing.predictor import Predictor
from aibrix_extproc.core.routing.prefix.index import Change
from aibrix_extproc.core.routing.sharing.bulletin import Bulletin, Charged, Computed, Ended, Placed, decoded_bulletin

MAX_SENDERS: Final = 256
MAX_FLIGHTS: Final = 4_096  # of one sender
SILENT_SECONDS: Final = 10.0
STALE_SECONDS: Final = 60  # by the wall clocks, which may differ
HISTORY_SECONDS: Final = 3_600
_LONGEST_AGO: Final = 120.0
_LONGEST_ANSWER: Final = 86_400.0
_OFFSETS: Final = 64  # bulletins by which the clocks of two processes are compared
_MOST_TOKENS: Final = 1e8


OnCharge = Callable[[str, Usage | None, float | None, bool], None]
"""The request's id, its usage, the seconds from head to first token, and whether the answer was a stream."""


class Refused(StrEnum):
    """Why a bulletin is not used."""

    UNREADABLE = "unreadable"
    REPEATED = "repeated"
    STALE = "stale"
    TOO_MANY = "too_many"  # gateways


class _Sender:
    """Another gateway."""

    def __init__(self, number: int) -> None:
        self.number = number  # of its latest bulletin
        self.heard_at = 0.0
        self.offsets: deque[float] = deque(maxlen=_OFFSETS)
        self.flights: OrderedDict[int, Flight] = OrderedDict()


class Others:
    """One for a process. `knows`: whether an endpoint is in our fleet; of others nothing is kept."""

    def __init__(
        self,
        predictor: Predictor,
        sender: int,
        knows: Callable[[str], bool],
        wall_clock: Callable[[], float],
        charged: OnCharge = lambda request_id, usage, after_head, streamed: None,
    ) -> None:
        """`charged` is told what requests cost, of which some may be ours."""
        self._predictor = predictor
        self._own = sender
        self._knows = knows
        self._wall_clock = wall_clock
        self._charge = charged
        self._senders: dict[int, _Sender] = {}
        self.received = 0  # placements
        self.refused: dict[str, int] = dict.fromkeys(Refused, 0)

    def __len__(self) -> int:
        """Other gateways that are heard."""
        return len(self._senders)

    @property
    def flights(self) -> int:
        """Requests of others that are in flight."""
        return sum(len(one.flights) for one in self._senders.values())

    def take(self, data: bytes, now: float, *, is_history: bool = False) -> None:
        """Take in a bulletin. `is_history`: it was sent before we listened, so it tells of caches alone."""
        bulletin = decoded_bulletin(data)
        if bulletin is None:
            self.refused[Refused.UNREADABLE] += 1
        elif bulletin.sender != self._own and self._is_fresh(
            bulletin, HISTORY_SECONDS if is_history else STALE_SECONDS
        ):
            if is_history:
                self._remember(bulletin)
            else:
                self._follow(bulletin, now)

    def sweep(self, now: float) -> None:
        """Forget the gateways that are silent."""
        for number, sender in list(self._senders.items()):
            if now - sender.heard_at > SILENT_SECONDS:
                self._end_all(sender, now)
                del self._senders[number]

    def lost(self, now: float) -> None:
        """Nothing is heard any more."""
        for sender in self._senders.values():
            self._end_all(sender, now)
        self._senders.clear()

    def _is_fresh(self, bulletin: Bulletin, seconds: float) -> bool:
        fresh = abs(self._wall_clock() - bulletin.wall_at) <= seconds and math.isfinite(bulletin.sent_at)
        self.refused[Refused.STALE] += not fresh
        return fresh

    def _remember(self, bulletin: Bulletin) -> None:
        for entry in bulletin.placed:
            identity = _at(bulletin.identities, entry.engine)
            chain = _chain(entry)
            if identity and chain is not None and self._knows(identity):
                self._cache(identity, _at(bulletin.models, entry.model), chain)

    def _follow(self, bulletin: Bulletin, now: float) -> None:
        sender = self._sender(bulletin, now)
        if sender is None:
            return
        sender.heard_at = now
        sender.offsets.append(now - bulletin.sent_at)
        sent_at = bulletin.sent_at + min(sender.offsets)  # by our clock, but for the shortest time that a bulletin took
        for placed in bulletin.placed:
            self._placed(sender, bulletin, placed, sent_at)
        for ended in bulletin.ended:
            self._ended(sender, ended, sent_at)
        for computed in bulletin.computed:
            self._computed(sender, computed, sent_at)
        for charged in bulletin.charged:
            self._charged(charged)

    def _sender(self, bulletin: Bulletin, now: float) -> _Sender | None:
        sender = self._senders.get(bulletin.sender)
        if sender is None:
            if len(self._senders) >= MAX_SENDERS:
                self.refused[Refused.TOO_MANY] += 1
                return None
            sender = self._senders[bulletin.sender] = _Sender(bulletin.number)
        elif bulletin.number <= sender.number:
            self.refused[Refused.REPEATED] += 1
            return None
        elif bulletin.number != sender.number + 1:
            self._end_all(sender, now)  # we do not know which of them are over
        sender.number = bulletin.number
        return sender

    def _placed(self, sender: _Sender, bulletin: Bulletin, entry: Placed, sent_at: float) -> None:
        self.received += 1
        identity, model = _at(bulletin.identities, entry.engine), _at(bulletin.models, entry.model)
        ago = _bounded(entry.ago, _LONGEST_AGO)
        if not identity or ago is None or not self._knows(identity):
            return
        chain = _chain(entry)
        if chain is None:
            return
        change = self._cache(identity, model, chain)
        tokens = _bounded(entry.tokens, _MOST_TOKENS)
        if tokens is not None and entry.number not in sender.flights:
            engine = self._predictor.engine(identity, model)
            flight = self._predictor.work.placed(engine, max(tokens, 1.0), sent_at - ago)
            flight.change = change
            sender.flights[entry.number] = flight
            if len(sender.flights) > MAX_FLIGHTS:
                self._end(sender.flights.popitem(last=False)[1], sent_at)

    def _cache(self, identity: str, model: str, chain: PrefixChain) -> Change | None:
        """The engine will have this prompt. Returns what that changes."""
        if not chain.hashes:
            return None
        change = self._predictor.index.placed(identity, chain)
        self._predictor.engine(identity, model).is_full = self._predictor.index.is_full(identity)
        return change

    def _ended(self, sender: _Sender, entry: Ended, sent_at: float) -> None:
        flight, ago = sender.flights.get(entry.number), _bounded(entry.ago, _LONGEST_AGO)
        if flight is None or ago is None or flight.ended_at is not None:
            return
        self._predictor.end(flight, sent_at - ago, served=entry.served)
        if not entry.served:
            del sender.flights[entry.number]
            self._predictor.work.gone(flight)

    def _computed(self, sender: _Sender, entry: Computed, sent_at: float) -> None:
        flight = sender.flights.get(entry.number)
        if flight is None or flight.ended_at is None:
            return
        del sender.flights[entry.number]
        work, tokens = self._predictor.work, _bounded(entry.tokens, _MOST_TOKENS)
        if tokens is not None:
            flight.tokens = max(tokens, 1.0)
            ago = None if entry.first_ago is None else _bounded(entry.first_ago, math.inf)
            if ago is not None:
                work.first_token(flight, sent_at - ago)
        work.gone(flight)

    def _charged(self, entry: Charged) -> None:
        usage = None
        if entry.usage is not None and all(0 <= tokens <= _MOST_TOKENS for tokens in entry.usage):
            prompt, answer, cached = entry.usage
            usage = Usage(prompt, answer, prompt + answer, cached)
        after_head = None if entry.after_head is None else _bounded(entry.after_head, _LONGEST_ANSWER)
        self._charge(entry.request_id, usage, after_head, entry.streamed)

    def _end_all(self, sender: _Sender, now: float) -> None:
        for flight in sender.flights.values():
            self._end(flight, now)
        sender.flights.clear()

    def _end(self, flight: Flight, now: float) -> None:
        """Nothing more will be heard of it, although its engine may still be at work."""
        flight.change = None
        if flight.ended_at is None:
            self._predictor.work.ended(flight, now, served=False)
        self._predictor.work.gone(flight)


def _chain(entry: Placed) -> PrefixChain | None:
    """The prompt of a request; None for what is no prompt."""
    try:
        return entry.chain
    except (struct.error, ValueError):
        return None


def _at(names: tuple[str, ...], place: int) -> str:
    return names[place] if 0 <= place < len(names) else ""


def _bounded(number: float, most: float) -> float | None:
    """The number, if it is one from 0 to `most`; a clock that was set back a little is none."""
    return min(max(number, 0.0), most) if math.isfinite(number) else None
