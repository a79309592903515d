"""The interfaces of a session: a dispatcher for asks and facts, a machine, and an observer of engine traffic."""

from typing import TYPE_CHECKING, Protocol

from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.asks import Answer, Ask, Pending
from aibrix_extproc.core.exchange.outputs import Fact, Output, Phase
from aibrix_extproc.core.exchange.policy import ExchangePolicy

if TYPE_CHECKING:
    from aibrix_extproc.adapters.extproc.session import Session


class Dispatcher(Protocol):
    """What a session needs from the application."""

    def answer(self, ask: Ask) -> Answer | Pending:
        """The answer to a question of the exchange, or what to wait for."""

    def observe(self, fact: Fact) -> None:
        """Take a fact of the exchange."""

    def timed(self, phase: Phase, seconds: float) -> None:
        """Take the time that we needed for one message."""

    def bug(self) -> None:
        """Count an unexpected exception that was turned into an answer."""


class Traffic(Protocol):
    """Records which exchanges are with which engine, and when engines answer."""

    def placed(self, identity: str, exchange: "Session", at: float) -> None:
        """An exchange goes to an engine."""

    def answered(self, address: str, at: float) -> None:
        """An engine has begun to answer."""

    def ended(self, identity: str, exchange: "Session") -> None:
        """An exchange that went to an engine is over."""


class Machine(Protocol):
    """The exchange, as a session uses it."""

    @property
    def policy(self) -> ExchangePolicy:
        """Its limits."""

    @property
    def answerable(self) -> bool:
        """Whether a final answer of ours may still be sent."""

    def receive(self, event: events.Event) -> tuple[Output, ...]:
        """The outputs of an event. Raises ProtocolViolation, and changes nothing, for an event that does not fit."""

    def internal_error(self) -> tuple[Output, ...]:
        """The final answer after a bug of ours; empty if the response has already begun."""
