"""Where sessions turn: asks go to the answers, facts to the load book, the metrics and the log."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aibrix_extproc.adapters.bodyreader.reader import BodyReader
from aibrix_extproc.adapters.telemetry.logs import log_exchange
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.answers import Answers
from aibrix_extproc.app.slices import Slices
from aibrix_extproc.core.exchange import events
from aibrix_extproc.core.exchange.outputs import Ask, Fact, Finished, Held, Moved, Read, ReadLarge, Taken
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.owners import ResponseOwners


class GatewayDesk:
    """Fits `adapters.extproc.session.Desk`."""

    def __init__(
        self,
        answers: Answers,
        load: LoadBook,
        owners: ResponseOwners,
        metrics: Metrics,
        *,
        look_soon: Callable[[str], None],
        log_every_exchange: bool,
        reader: BodyReader | None = None,
    ) -> None:
        self._answers = answers
        self._load = load
        self._owners = owners
        self._metrics = metrics
        self._slices = Slices()
        self._look_soon = look_soon
        self._reader = reader or BodyReader()
        self._log_every_exchange = log_every_exchange
        self.timed = metrics.timed
        self.bug = metrics.bug

    def answer(self, ask: Ask) -> events.Answer | Awaitable[events.Answer]:
        """Everything is in memory, so every answer is at hand but that of a long body."""
        if type(ask) is Read:
            return self._slices.run(ask.step)
        if type(ask) is ReadLarge:
            return self._reader.read(ask.body, sizes=ask.sizes)
        return self._answers.answer(ask)

    def observe(self, fact: Fact) -> None:
        """Keep the load exact first, then count and log."""
        match fact:
            case Taken(identity):
                self._load.acquire(identity)
            case Moved(from_identity, to_identity):
                self._look_soon(from_identity)
                self._load.release(from_identity)
                self._load.acquire(to_identity)
            case Held():
                self._owners.record_move(fact.response_id, fact.identity, fact.at)
            case Finished():
                if fact.holding is not None:
                    self._load.release(fact.holding)
                    if fact.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                        self._look_soon(fact.holding)
                self._metrics.finished(fact)
                log_exchange(fact, every=self._log_every_exchange)
