"""The prefill work that waits at each engine, as far as this gateway gave it, and when it will be done.

An engine takes prompts in the order in which they came. So the time at which it is free for the next one follows from
the tokens that it has not computed yet and from its speed. Each first token of an answer, and each end of one, corrects
that time; between them the clock alone counts.
"""

from typing import Final

from aibrix_extproc.core.routing.engine import Engine, Flight
from aibrix_extproc.core.routing.speeds import Speeds

MAX_FLIGHTS: Final = 256  # of one engine whose first tokens are waited for; the oldest are believed to have come
_IDLE: Final = 1.5  # times the expected end of the work before a prompt: then the engine was idle when it came
_CHARGED_WITHIN: Final = 5.0  # seconds after its end; later nothing more is expected to be heard of a flight


class WorkBook:
    """Writes down what happens to flights, and teaches the speeds by it."""

    def __init__(self, speeds: Speeds) -> None:
        self._speeds = speeds

    def placed(self, engine: Engine, group: str, tokens: float, now: float) -> Flight:
        """An engine gets a prompt of which it has to compute so many tokens."""
        flight = Flight(engine, group, tokens, now)
        begins = engine.free_at if engine.free_at > now else now
        flight.would_be_done_at = flight.done_at = engine.free_at = begins + tokens * engine.pace
        engine.tokens += tokens
        engine.running += 1
        if engine.running == 1:
            engine.sign_at = now
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
        self._sample(flight, first_at)
        _reschedule(flight, first_at)
        flights = engine.flights
        while flights and (known := flights[0].first_at) is not None:
            flights.popleft().is_listed = False
            engine.last_first = max(engine.last_first, known)

    def ended(self, flight: Flight, now: float, *, served: bool) -> None:
        """Its answer is over, so its prompt and those before it are computed if it was served."""
        engine = flight.engine
        flight.ended_at = now
        engine.running -= 1
        engine.tokens = engine.tokens - flight.tokens if engine.running else 0.0
        if served:
            engine.sign_at = now
        if flight.is_listed and flight.done_at > now:
            _reschedule(flight, now if served else flight.placed_at)

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

    def _sample(self, flight: Flight, first_at: float) -> None:
        """Learn the speed from the work between the last first token that is known before this one, and this one."""
        engine = flight.engine
        begun, tokens, pace = engine.last_first, 0.0, engine.pace * _IDLE
        for one in engine.flights:
            if one.placed_at >= begun + tokens * pace:
                begun, tokens = one.placed_at, 0.0
            tokens += one.tokens
            if one is flight:
                break
            if one.first_at is not None:
                begun, tokens = max(begun, one.first_at), 0.0
        self._speeds.prefilled(engine, flight.group, tokens, first_at - begun)


def _reschedule(flight: Flight, at: float) -> None:
    """Compute when the work behind this flight will be done, which itself was done at this time."""
    engine, seen = flight.engine, False
    pace = engine.pace
    for one in engine.flights:
        if seen:
            done = max(at, one.placed_at) + one.tokens * pace if one.first_at is None else one.first_at
            at = one.done_at = max(at, done)
        elif one is flight:
            one.done_at, seen = at, True
    engine.free_at = at
