"""The prefill work that waits at each engine, as far as this gateway gave it, and when it will be done.

An engine takes prompts in the order in which they came. So the first token of one says that all before it are computed:
what is left is what came later. Between two such anchors the clock counts, at the pace that the engine has shown.
"""

from typing import Final

from aibrix_extproc.core.fleet.gauges import EngineGauges, freshness
from aibrix_extproc.core.routing.engine import MAX_FLIGHTS, Engine, Flight
from aibrix_extproc.core.routing.speeds import Speeds

_CHARGED_WITHIN: Final = 5.0  # seconds after its end; later nothing more is expected to be heard of a flight
_LOOK_BACK: Final = 64  # flights that one sample of the speed is made of, at most
_ONE_TOKENS: Final = 512.0  # fewer tokens say little of the speed
_MORE_TOKENS: Final = 2_048.0  # and these after another prompt: an engine takes several into one step
_TOGETHER: Final = 0.005  # seconds within which the prompts of one step have their first tokens
_SEEN_SECONDS: Final = 1.0  # of a prompt; the readings of engines are too rare to tell the speed by shorter ones
_LATE_SECONDS: Final = 0.2  # less is not called late
_NOTHING: Final = 1.0  # token: what is computed of a prompt that another engine has computed


class WorkBook:
    """Writes down what happens to flights, and teaches the speeds by it."""

    def __init__(self, speeds: Speeds) -> None:
        self._speeds = speeds

    def placed(self, engine: Engine, tokens: float, now: float) -> Flight:
        """An engine gets a prompt of which it has to compute so many tokens."""
        flight = Flight(engine, tokens, now)
        engine.turns += 1
        if tokens > _NOTHING:
            engine.arrivals.add(now)
        _append(engine, flight, max(engine.free_at, now))
        if flight.done_at < engine.read_at:
            engine.reached += 1  # we hear of it late: its first token has probably been counted
        flight.would_be_done_at = flight.done_at
        engine.tokens += tokens
        engine.running += 1
        if engine.running == 1:
            engine.sign_at = now
        engine.recent.append(flight)
        engine.flights.append(flight)
        if len(engine.flights) > MAX_FLIGHTS:
            engine.flights.popleft().is_listed = False
        return flight

    def first_token(self, flight: Flight, at: float) -> None:
        """The first token of its answer came at this time, of which we may hear later."""
        if not flight.is_listed or flight.first_at is not None:
            return
        engine = flight.engine
        first_at = flight.first_at = max(at, flight.placed_at)
        engine.sign_at = max(engine.sign_at, first_at)
        self._speeds.prefilled(engine, _least_speed(flight, first_at))
        if flight.turn >= engine.anchor:
            engine.anchor, engine.anchored_at = flight.turn, first_at
        _reschedule(engine)
        while engine.flights and engine.flights[0].first_at is not None:
            engine.flights.popleft().is_listed = False

    def read(self, engine: Engine, reading: EngineGauges) -> None:
        """The engine has counted the first tokens of all its answers, which tells of ours long before their ends.

        Of the prompts that we know of, in their order, at most as many can have been computed since the last reading as
        it has counted first tokens; and just as many if it has no other requests.
        """
        # One that has counted none may not count at all, as for embeddings.
        before, engine.first_tokens = engine.first_tokens, reading.first_tokens or None
        latest = engine.turns - 1
        if before is None or engine.first_tokens is None or engine.first_tokens < before:
            engine.reached = latest
            return
        known = engine.reached
        engine.reached = min(known + int(engine.first_tokens - before), latest)
        unknown = (reading.running or 0.0) + (reading.waiting or 0.0) - engine.running
        if unknown < 1.0 and engine.reached > max(known, engine.anchor):
            self._reached(engine, reading.at)
        if engine.reached < latest:
            self._not_reached(engine, reading.at if reading.asked_at is None else reading.asked_at)

    def _reached(self, engine: Engine, at: float) -> None:
        """The prompt of this turn is computed."""
        flight = _of_turn(engine, engine.reached)
        if flight is None or flight.first_at is not None:
            return
        if at - flight.placed_at >= _SEEN_SECONDS:
            self._speeds.prefilled(engine, _least_speed(flight, at))
        if flight.done_at > at:
            engine.anchor, engine.anchored_at = flight.turn, at
            _reschedule(engine)

    def _not_reached(self, engine: Engine, at: float) -> None:
        """The prompt of the next turn is not computed; perhaps it should have been."""
        flight = _of_turn(engine, engine.reached + 1)
        if flight is None or flight.turn <= engine.anchor or flight.done_at >= at - _LATE_SECONDS:
            return
        tokens = 0.0
        for turn in range(flight.turn, engine.anchor, -1):
            one = _of_turn(engine, turn)
            if one is None:
                break
            tokens += one.tokens
            if one.done_at - one.tokens * engine.pace <= one.placed_at:
                break  # the engine had rested
        if tokens >= _ONE_TOKENS:
            most = tokens / (tokens * engine.pace + at - flight.done_at)
            self._speeds.prefilled(engine, most, again=engine.late == flight.turn)
            engine.late = flight.turn
        engine.anchor, engine.anchored_at = flight.turn - 1, at - flight.tokens * engine.pace
        _reschedule(engine)

    def ended(self, flight: Flight, now: float, *, served: bool) -> None:
        """Its answer is over, so its prompt and those before it are computed if it was served."""
        engine = flight.engine
        flight.ended_at = now
        engine.running -= 1
        engine.tokens = engine.tokens - flight.tokens if engine.running else 0.0
        if served:
            engine.sign_at = now
            engine.reached = max(engine.reached, flight.turn)
        elif flight.turn > engine.reached:
            engine.reached += 1  # it may leave without a first token
        if flight.first_at is None and not served:
            flight.tokens = 0.0
            _reschedule(engine)
        elif flight.turn > engine.anchor and flight.done_at > now:
            engine.anchor, engine.anchored_at = flight.turn, now
            _reschedule(engine)

    def gone(self, flight: Flight) -> None:
        """Nothing more will be heard of it."""
        if flight.is_listed:
            flight.engine.flights.remove(flight)
            flight.is_listed = False

    def overdue(self, engine: Engine, now: float, patience: float) -> float:
        """For how many seconds an engine has done nothing at all, past the time when its oldest work should be done."""
        flights = engine.flights
        while flights:
            oldest = flights[0]
            if oldest.ended_at is None:
                return max(now - patience - max(oldest.done_at, engine.sign_at), 0.0)
            if now - oldest.ended_at < _CHARGED_WITHIN:
                break
            flights.popleft().is_listed = False
        return 0.0

    def wait(self, engine: Engine, now: float) -> float:
        """Seconds until the engine can begin with another prompt, by our own count or by its own, whichever is more."""
        waiting = engine.waiting * freshness(now - engine.read_at)
        return max(engine.free_at - now, _latest_seconds(engine, waiting))


def _of_turn(engine: Engine, turn: int) -> Flight | None:
    place = turn - engine.turns + len(engine.recent)
    return engine.recent[place] if 0 <= place < len(engine.recent) else None


def _latest_seconds(engine: Engine, count: float) -> float:
    """Seconds that so many of the latest prompts take; those of other gateways are taken to be as long as ours."""
    taken = min(int(count), len(engine.recent), _LOOK_BACK)
    if not taken:
        return 0.0
    return sum(engine.recent[-1 - back].tokens for back in range(taken)) * int(count) / taken * engine.pace


def _append(engine: Engine, flight: Flight, begins: float) -> None:
    flight.done_at = engine.free_at = begins + flight.tokens * engine.pace


def _reschedule(engine: Engine) -> None:
    """Compute anew when the work behind the anchor will be done."""
    engine.free_at = engine.anchored_at
    flights = engine.recent
    for place in range(max(len(flights) - (engine.turns - 1 - engine.anchor), 0), len(flights)):
        flight = flights[place]
        _append(engine, flight, max(engine.free_at, flight.placed_at))


def _least_speed(flight: Flight, first_at: float) -> float:
    """Tokens a second that the engine has shown at least, by the flights up to this one; 0 if they say nothing.

    That is what it has computed from a time at which it cannot have begun with that to this first token: rest in
    between only makes it less. Of all such times the one that says most.
    """
    flights = flight.engine.recent
    last = flight.turn - flight.engine.turns + len(flights)
    tokens, begun, most = 0.0, flight.placed_at, 0.0
    for place in range(last, max(last - _LOOK_BACK, -1), -1):
        one = flights[place]
        if one is not flight and one.first_at is not None and one.first_at < first_at - _TOGETHER:
            if begun < one.first_at < first_at and tokens >= _MORE_TOKENS:
                most = max(most, tokens / (first_at - one.first_at))
            break
        tokens, begun = tokens + one.tokens, one.placed_at
        if tokens >= _ONE_TOKENS and first_at > begun:
            most = max(most, tokens / (first_at - begun))
    return most
