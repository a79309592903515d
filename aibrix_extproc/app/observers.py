"""Who observes which fact, charge or record, and in which order."""

from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus

from aibrix_extproc.adapters.telemetry.logs import log_exchange, log_prefix, log_record
from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.degradation_log import DegradationLog
from aibrix_extproc.app.dispatch import Observer
from aibrix_extproc.app.engine_load import LoadCount
from aibrix_extproc.app.limiting import Limiter
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Moved, OwnerChanged
from aibrix_extproc.core.exchange.records import Charge, ExchangeRecord
from aibrix_extproc.core.openai.wire.estimates import InputRatios
from aibrix_extproc.core.routing.owners import ResponseOwners


def observers(
    load: LoadCount,
    owners: ResponseOwners,
    poll_soon: Callable[[str], None],
    metrics: Metrics,
    *,
    log_every: bool,
    log_prefixes: bool = False,
    limiter: Limiter | None = None,
) -> Sequence[Observer]:
    """The load comes first, so that it is exact whatever the others do. `poll_soon` polls an engine before its turn."""

    def check_left(fact: Moved) -> None:
        poll_soon(fact.from_identity)

    def check_failed(fact: Finished) -> None:
        if fact.status >= HTTPStatus.INTERNAL_SERVER_ERROR and fact.assigned_to is not None:
            poll_soon(fact.assigned_to)

    def record_owner(fact: OwnerChanged) -> None:
        owners.record_move(fact.response_id, fact.identity, fact.at)

    rows: list[Observer] = [
        (Assigned, load.assigned),
        (Moved, load.moved),
        (Finished, load.finished),
        (Moved, check_left),
        (Finished, check_failed),
        (OwnerChanged, record_owner),
        (Finished, metrics.finished),
        (Finished, DegradationLog().finished),
        (Finished, partial(log_exchange, every=log_every)),
        (Charge, metrics.charged),
    ]
    rows += [] if limiter is None else [(Finished, limiter.finished), (Charge, limiter.charged)]
    if log_prefixes:
        rows.append((Assigned, log_prefix))
    if log_every:
        rows.append((ExchangeRecord, log_record))
    return rows


def learner(ratios: InputRatios) -> Callable[[Charge], None]:
    """Teaches the ratios what engines have reported; before those who estimate by them."""

    def learn(charge: Charge) -> None:
        if charge.usage is not None and charge.status == HTTPStatus.OK:
            ratios.learn(charge.model, charge.bytes_in, charge.usage.input_tokens)

    return learn
