"""The signals of placement, and the parts that produce those which cost something: each runs once a scorer needs it."""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aibrix_extproc.adapters.telemetry.metrics import Metrics
from aibrix_extproc.app.dispatch import Observer
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.listening import StartError
from aibrix_extproc.app.parts.gauges import Gauges
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.app.parts.predicting import Predicting
from aibrix_extproc.app.parts.seals import NoteSeals
from aibrix_extproc.app.parts.sharing import Sharing, prefix_seed
from aibrix_extproc.config_files.errors import SourceError
from aibrix_extproc.core.exchange.outputs import Assigned, Finished, Forwarded, Moved
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.signals import Need, SignalSources
from aibrix_extproc.settings.shared_limits import RedisSettings

if TYPE_CHECKING:
    from aibrix_extproc.app.parts.kv_events import KVEvents


def kv_events_part(store: FleetStore, sources: SignalSources) -> "KVEvents":
    """The part that follows cache events. Raises StartError without the library that it needs."""
    try:
        from aibrix_extproc.app.parts.kv_events import KVEvents
    except ModuleNotFoundError as error:
        if error.name != "zmq":
            raise
        raise StartError("--kv-events needs an extra: in the clone run pip install -e '.[kvevents]'") from error
    part = KVEvents(store, sources.predictor)
    sources.provide(Need.PREFIX, part.start)
    return part


class PrefixSeed:
    """The seed of the hashes of prompts: of all processes that share note keys the same, and followed when they change.

    Processes that share none have one each by chance, as their keys are.
    """

    def __init__(self, seals: NoteSeals) -> None:
        self.value = prefix_seed(seals.secrets[0])
        seals.subscribe(self._use)

    def _use(self, keys: Sequence[bytes]) -> None:
        self.value = prefix_seed(keys[0])


def sharing_part(
    redis: RedisSettings, store: FleetStore, sources: SignalSources, predicting: Predicting, seals: NoteSeals
) -> Sharing:
    """The part by which gateways share what they place. Raises StartError for a Redis that cannot be meant."""
    try:
        part = Sharing(
            redis,
            sources.predictor,
            predicting,
            store,
            seals.secrets,
            secrets.randbits(63),
            sources.clock,
            time.time,
        )
    except SourceError as error:
        raise StartError(str(error)) from error
    seals.subscribe(part.use_secrets)
    sources.provide(Need.WORK, part.start)
    return part


def signal_observers(sources: SignalSources, predicting: Predicting) -> Sequence[Observer]:
    """Who learns from what happens to exchanges, and from what they cost."""

    def count_tokens(charge: Charge) -> None:
        if charge.usage is not None:
            sources.tokens.charged(charge.caller, charge.usage, sources.clock())

    return (
        (Assigned, predicting.assigned),
        (Forwarded, predicting.forwarded),
        (Moved, predicting.moved),
        (Finished, predicting.finished),
        (Charge, predicting.charged),
        (Charge, count_tokens),
    )


def signal_parts(
    store: FleetStore, load: LoadBook, poll_soon: Callable[[str], None], metrics: Metrics
) -> tuple[SignalSources, Predicting, list[Part]]:
    """`poll_soon` polls an engine before its turn. The clock is the one of the facts of exchanges."""
    sources = SignalSources(load, random.random, time.perf_counter)
    predictor = sources.predictor
    gauges = Gauges(store, load, sources.gauges, poll_soon, predictor.cache_size, predictor.read)
    for need in (Need.GAUGES, Need.WORK):
        sources.provide(need, gauges.start)
    sources.provide(Need.PREFIX, gauges.start_rarely)
    predicting = Predicting(
        sources.predictor,
        lambda: store.snapshot,
        sources.clock,
        lambda: sources.needs(Need.WORK),
        found_cached=metrics.found_cached,
        missed=metrics.missed_first_token,
    )
    store.subscribe_changes(predicting.on_changes)
    return sources, predicting, [gauges, predicting]
