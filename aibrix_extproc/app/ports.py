"""Protocols of what the gateway needs from the outside world. Adapters fit them without knowing this file."""

from collections.abc import Callable, Mapping
from typing import Protocol

from aibrix_extproc.core.fleet.reduce import SourceChange


class EndpointSource(Protocol):
    """A source of endpoints: a file, flags, a Kubernetes API."""

    @property
    def name(self) -> str:
        """The name in every change it emits; FleetStore gets it beforehand."""
        ...

    async def run(self, emit: Callable[[SourceChange], None]) -> None:
        """Emit `Listed` as soon as everything was read, then what changes, until cancelled.

        A source that loses its connection keeps what it emitted and reports a status; it does not raise.
        """
        ...


class ClusterSource(EndpointSource, Protocol):
    """A source that hears of its endpoints from a cluster, and finds things there that it cannot use."""

    def age_seconds(self) -> float:
        """Since the cluster was last heard."""
        ...

    def warnings(self) -> Mapping[str, str]:
        """The objects that cannot be used, each with the reason."""
        ...
