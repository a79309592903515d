"""The queue of a gateway, where there is something to wait for."""

from aibrix_extproc.app.exchange_policy import longest_wait_seconds
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.parts.queue import Counts, Queue, Waits
from aibrix_extproc.app.parts.waking import Waking
from aibrix_extproc.core.fleet.load import LoadBook
from aibrix_extproc.core.routing.signals import Need, SignalSources
from aibrix_extproc.settings import Settings


def request_queue(
    settings: Settings, store: FleetStore, load: LoadBook, sources: SignalSources, waking: Waking | None, counts: Counts
) -> Queue | None:
    """None where nothing can make a request wait, so that it costs nothing."""
    queue = settings.queue
    if not queue.enabled and not queue.hold_models and waking is None:
        return None
    if queue.enabled and queue.engine_requests is None:
        sources.require((Need.GAUGES,))
    waits = Waits(longest_wait_seconds(settings.server), settings.control.wake_seconds)
    return Queue(queue, store, load, sources.gauges, waits, waking, counts=counts, clock=sources.clock)
