"""The signals of placement, and the parts that produce those which cost something: each runs once a scorer needs it."""

import random
import time
from collections.abc import Callable, Sequence

from aibrix_extproc.app.dispatch import Observer
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.gauges import Gauges
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.core.exchange.records import Charge
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.signals import Need, SignalSources


def signal_observers(sources: SignalSources) -> Sequence[Observer]:
    """Who learns from what exchanges cost."""

    def count_tokens(charge: Charge) -> None:
        if charge.usage is not None:
            sources.tokens.charged(charge.caller, charge.usage, sources.clock())

    return ((Charge, count_tokens),)


def signal_parts(
    store: FleetStore, load: LoadBook, poll_soon: Callable[[str], None]
) -> tuple[SignalSources, list[Part]]:
    """`poll_soon` polls an engine before its turn."""
    sources = SignalSources(load, random.random, time.monotonic)
    gauges = Gauges(store, load, sources.gauges, poll_soon)
    sources.provide(Need.GAUGES, gauges.start)
    return sources, [gauges]
