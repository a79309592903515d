"""Everything that waits for the engines of one model, and what is known of its callers."""

from aibrix_extproc.core.routing.queue.classes import RequestClass
from aibrix_extproc.core.routing.queue.drain import DrainRate
from aibrix_extproc.core.routing.queue.line import Line, Ticket
from aibrix_extproc.core.routing.queue.shares import Room, Shares


class ModelQueue:
    """`now`: monotonic seconds, at each call."""

    def __init__(self, now: float) -> None:
        self.line = Line()
        self.shares = Shares()
        self.drain = DrainRate(now)

    def may_pass(self, caller: str, kind: RequestClass, room: Room, now: float) -> bool:
        """Whether a request may go at once: it may take a slot, and nobody waits who would have to go before.

        Whoever waits while a slot is free may not take it, so only the caller's own requests go before.
        """
        if room.free < 1 or (self.line and self.line.has(caller, kind)):
            return False
        return self.shares.reading(room, now).may_start(caller, kind)

    def next(self, room: Room, now: float) -> Ticket | None:
        """Who goes next; it stays in the line until `go`."""
        if room.free < 1 or not self.line:
            return None
        return self.line.next(self.shares.reading(room, now).may_start)

    def go(self, ticket: Ticket, now: float) -> None:
        """A ticket goes to an engine."""
        self.line.go(ticket)
        self.drain.departed(now)
