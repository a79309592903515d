"""Which parts find the endpoints and publish them, by the settings."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from aibrix_extproc.app.default_key import with_default_key
from aibrix_extproc.app.fleet_store import FleetStore
from aibrix_extproc.app.listening import StartError
from aibrix_extproc.app.parts.part import Part
from aibrix_extproc.app.parts.sources import Sources, SourceStatuses, configured_sources
from aibrix_extproc.app.ports import EndpointSource
from aibrix_extproc.settings import KubernetesSettings, Settings


def has_sources(settings: Settings) -> bool:
    """Whether the settings name any source of endpoints."""
    fleet = settings.fleet
    return fleet.file is not None or bool(fleet.endpoints or fleet.prefill_endpoints) or settings.kubernetes.enabled


def fleet_parts(settings: Settings, *, publishes: bool = True) -> tuple[FleetStore, list[Part]]:
    """The fleet and the parts around it. Raises StartError without any source, and SourceError for an unusable one.

    `publishes`: whether this process may write the EndpointSlices that the settings ask for.
    """
    statuses = SourceStatuses()
    sources = configured_sources(settings.fleet, statuses.take)
    parts: list[Part] = []
    if settings.kubernetes.enabled:
        parts.append(_cluster(settings.kubernetes, statuses, sources))
    if not sources:
        raise StartError(
            "no engines: name a fleet file (--fleet FILE), engines (--endpoint http://HOST:PORT), or --kubernetes "
            "(with `picker`: --pool-name NAME)"
        )
    store = FleetStore(source.name for source in sources)
    key = settings.fleet.engine_api_key
    parts.append(Sources(sources, statuses, lambda change: store.apply(with_default_key(change, key))))
    if publishes and settings.kubernetes.publish_service is not None:
        parts += _publishing(settings.kubernetes, store)
    return store, parts


def _cluster(settings: KubernetesSettings, statuses: SourceStatuses, sources: list[EndpointSource]) -> Part:
    with _extra_is_needed("--kubernetes"):
        from aibrix_extproc.app.parts.cluster import Cluster

        cluster = Cluster(settings, statuses.take)
    sources.append(cluster.source)
    return cluster


def _publishing(settings: KubernetesSettings, store: FleetStore) -> list[Part]:
    with _extra_is_needed("--publish-service"):
        from aibrix_extproc.app.parts.leadership import Leadership
        from aibrix_extproc.app.parts.publishing import Publishing

        leadership = Leadership(settings, socket.gethostname())
        return [leadership, Publishing(settings, store, leadership.election)]


@contextmanager
def _extra_is_needed(flag: str) -> Iterator[None]:
    """A client library that is not installed, as one sentence."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "kubernetes":
            raise
        raise StartError(f"{flag} needs an extra: in the clone run pip install -e '.[kubernetes]'") from error
